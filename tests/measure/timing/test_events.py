"""The CUDA timer's own logic, on a stand-in for torch's CUDA module. What a real GPU does is proven by
benchmarks/proof_of_clock.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trtgate.measure.timing import events


class Cuda:
    """Spins at the given rates, one after the other; the last one stays."""

    def __init__(self, *rates):
        self.rates = list(rates)
        self.now_s = 0.0
        self.slept = []
        cuda = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self, stream):
                assert stream is cuda.stream
                self.at_s = cuda.now_s

            def query(self):
                return False

            def synchronize(self):
                pass

            def elapsed_time(self, other):
                return (other.at_s - self.at_s) * 1e3

        self.Event = Event
        self.stream = SimpleNamespace(device=torch.device("cpu"))

    def _sleep(self, cycles):
        self.slept.append(cycles)
        if cycles > 1:
            self.now_s += cycles / (self.rates.pop(0) if len(self.rates) > 1 else self.rates[0])


@pytest.fixture
def cuda(monkeypatch):
    stand_in = Cuda(0.3e9, 1.9e9, 1.8e9)
    monkeypatch.setattr(events, "_cuda", stand_in)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=1000))
    return stand_in


def test_the_spacer_is_calibrated_at_the_fastest_clock_so_that_it_is_never_too_short(cuda):
    timer = events.CudaTimer(cuda.stream)
    assert timer.cycles_per_s == pytest.approx(1.9e9)
    cuda.slept.clear()
    timer.hold(2e-3)
    assert cuda.slept == [pytest.approx(3_800_000, abs=1)]


def test_a_span_is_in_seconds(cuda):
    timer = events.CudaTimer(cuda.stream)
    timer.start()
    cuda.now_s += 0.25e-3
    timer.stop()
    assert timer.elapsed_s() == pytest.approx(0.25e-3)
    assert timer.started() is False


def test_the_flush_writes_twice_the_cache_and_allocates_once(cuda):
    timer = events.CudaTimer(cuda.stream)
    with torch.inference_mode():
        timer.flush_l2()
    buffer = timer._l2_buffer
    assert buffer.numel() == 2000
    timer.flush_l2()  # outside inference mode too
    assert timer._l2_buffer is buffer
