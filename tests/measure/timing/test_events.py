"""The CUDA timer's own logic, on a stand-in for torch's CUDA module. What a real GPU does is proven by
benchmarks/proof_of_clock.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trtgate.errors import MeasurementError
from trtgate.measure.timing import events


class Cuda:
    """Spins at the given rates, one after the other; the last one stays. Each event takes the device some time.

    `late` says of how many queries the answer is that the device was there before the host, from the first one on.
    """

    event_s = 1.248e-6

    def __init__(self, *rates):
        self.rates = list(rates)
        self.now_s = 0.0
        self.late = 0
        self.was_late = False
        self.slept = []
        cuda = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self, stream):
                assert stream is cuda.stream
                cuda.now_s += cuda.event_s
                self.at_s = cuda.now_s
                cuda.was_late = False

            def query(self):
                cuda.late -= 1
                cuda.was_late = cuda.late >= 0
                return cuda.was_late

            def synchronize(self):
                pass

            def elapsed_time(self, other):
                # Where the device was there first, it waited for the host between the two events.
                return (other.at_s - self.at_s) * 1e3 + (0.04 if cuda.was_late else 0.0)

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
    assert timer.cycles_per_s == pytest.approx(1.9e9, rel=1e-3)
    cuda.slept.clear()
    timer.hold(2e-3)
    assert cuda.slept == [pytest.approx(3_800_000, rel=1e-3)]


def test_a_span_is_in_seconds_and_without_what_the_events_take(cuda):
    timer = events.CudaTimer(cuda.stream)
    timer.start()
    cuda.now_s += 0.25e-3
    timer.stop()
    assert timer.elapsed_s() == pytest.approx(0.25e-3)
    assert timer.empty_pair_s == pytest.approx(cuda.event_s)
    assert timer.started() is False


def test_an_empty_pair_that_the_host_queued_too_late_is_not_its_measure(cuda):
    timer = events.CudaTimer(cuda.stream)
    cuda.late = 90
    assert timer.empty_pair_s == pytest.approx(cuda.event_s)
    assert max(cuda.slept) == pytest.approx(16e-3 * timer.cycles_per_s, rel=1e-3)  # longer ones were tried


def test_a_host_that_is_always_too_late_cannot_measure_device_time_and_everything_else(cuda):
    cuda.late = 10_000
    timer = events.CudaTimer(cuda.stream)
    timer.hold(1e-3)
    timer.flush_l2()
    with pytest.raises(MeasurementError, match="longer than 16 ms to queue two CUDA events"):
        _ = timer.empty_pair_s


def test_the_flush_writes_twice_the_cache_and_allocates_once(cuda):
    timer = events.CudaTimer(cuda.stream)
    with torch.inference_mode():
        timer.flush_l2()
    buffer = timer._l2_buffer
    assert buffer.numel() == 2000
    timer.flush_l2()  # outside inference mode too
    assert timer._l2_buffer is buffer
