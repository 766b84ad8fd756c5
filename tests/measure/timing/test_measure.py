from __future__ import annotations

import contextlib

import pytest
from simulated_gpu import Kernels, SimulatedRunner, SimulatedTimer

from trtgate.backends import cuda_device
from trtgate.case import L2, Execution, Quantity
from trtgate.errors import CaptureError, LostDeviceError, MeasurementError
from trtgate.measure.device import Monitor
from trtgate.measure.timing import Certainty, Participant, measure, samplers
from trtgate.policy import MeasureSettings

QUICK = MeasureSettings(min_rounds=10, max_rounds=20, block_rounds=5, seconds=60, warmup_seconds=0.5)


def unsure(_):
    return Certainty.FAIR


def called(runner):
    return Participant(runner, Execution.STREAM)


@pytest.mark.parametrize("quantity", [Quantity.LATENCY, Quantity.THROUGHPUT])
def test_a_real_speedup_on_the_cpu(cpu_context, eager, quantity):
    participants = {"small": called(eager(128)), "large": called(eager(1024))}
    timing = measure(participants, quantity, QUICK, cpu_context, L2.WARM, unsure, 0)
    small_s, large_s = timing.samples_s["small"], timing.samples_s["large"]
    assert len(small_s) == len(large_s) >= 10
    # 512 times the arithmetic; the fastest samples, because a busy machine delays the others by anything.
    assert min(large_s) > 5 * min(small_s)
    assert timing.environment.kept_blocks >= 2
    assert timing.environment.discarded_blocks == 0
    assert timing.environment.sm_clock_mhz is None
    assert timing.failures == {}


def test_the_judge_is_told_everyone_and_ends_it(cpu_context, eager):
    asked = []

    def settled(samples):
        asked.append({name: len(taken) for name, taken in samples.items()})
        return Certainty.SETTLED

    measure({"a": called(eager(64))}, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, settled, 0)
    assert asked == [{"a": 10}]


def test_what_was_not_captured_is_not_measured_as_a_graph_and_the_others_are(cpu_context, eager):
    participants = {"graphed": Participant(eager(8), Execution.GRAPH), "called": called(eager(8))}
    timing = measure(participants, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, unsure, 0)
    assert isinstance(timing.failures["graphed"], CaptureError)
    assert set(timing.samples_s) == {"called"}


def test_device_time_needs_a_gpu(cpu_context, eager):
    timing = measure({"a": called(eager(8))}, Quantity.DEVICE, QUICK, cpu_context, L2.WARM, unsure, 0)
    assert isinstance(timing.failures["a"], MeasurementError)
    assert "Device time was asked for on the device 'cpu'" in str(timing.failures["a"])


def breaking(runner, after):
    """A runner that fails at its so-manieth inference."""
    enqueue = runner.enqueue
    calls = iter(range(after))

    def enqueue_until():
        if next(calls, None) is None:
            raise RuntimeError("planted")
        enqueue()

    runner.enqueue = enqueue_until
    return runner


def test_whoever_fails_is_left_out_and_the_others_are_measured_anew(cpu_context, eager):
    participants = {"good": called(eager(64)), "bad": called(breaking(eager(64), 40)), "other": called(eager(64))}
    timing = measure(participants, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, unsure, 0)
    assert str(timing.failures["bad"]) == "planted"
    assert timing.failures.keys() == {"bad"}
    assert {len(samples) for samples in timing.samples_s.values()} == {20}
    assert timing.samples_s.keys() == {"good", "other"}
    assert timing.lost_by is None


def test_whose_turn_it_is_is_told_while_it_is_and_not_after(cpu_context, eager):
    turn, seen = bytearray(1), set()

    def telling(name, runner):
        enqueue = runner.enqueue

        def told():
            seen.add((name, turn[0]))
            enqueue()

        runner.enqueue = told
        return called(runner)

    participants = {"bad": called(breaking(eager(8), 40)), "b": telling("b", eager(8)), "c": telling("c", eager(8))}

    def unsure_in_nobodys_turn(_):
        seen.add(("judge", turn[0]))
        return Certainty.FAIR

    measure(participants, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, unsure_in_nobodys_turn, 0, turn=turn)
    assert seen == {("b", 2), ("c", 3), ("judge", 0)}
    assert turn[0] == 0


def test_whoever_takes_the_context_along_ends_it_for_all(cpu_context, eager, monkeypatch):
    monkeypatch.setattr(cuda_device, "is_lost", lambda: True)
    participants = {"good": called(eager(64)), "bad": called(breaking(eager(64), 40))}
    timing = measure(participants, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, unsure, 0)
    assert timing.lost_by == "bad"
    assert str(timing.failures["bad"]) == "planted"
    assert isinstance(timing.failures["good"], LostDeviceError)
    assert "while 'bad' was measured" in str(timing.failures["good"])
    assert timing.samples_s == {}


class Throttled(Monitor):
    """A monitor whose third look finds the GPU throttled."""

    looks = 0

    def look(self):
        self.looks += 1
        return ("hw_slowdown",) if self.looks == 3 else ()


def test_what_the_monitor_saw_is_in_the_environment(cpu_context, eager):
    monitor = Throttled(cpu_context.device)
    participants = {"a": called(eager(64))}
    timing = measure(participants, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, unsure, 0, monitor=monitor)
    assert timing.environment.discarded_blocks == 1
    assert len(timing.samples_s["a"]) == 5 * timing.environment.kept_blocks


def test_device_times_tell_what_an_empty_pair_read(gpu, gpu_context, monkeypatch):
    timer = SimulatedTimer(gpu)
    timer.empty_pair_s = 1.25e-6
    monkeypatch.setattr(samplers, "timer_for", lambda stream: timer)
    monkeypatch.setattr(samplers, "on_stream", lambda context: contextlib.nullcontext())
    participants = {"a": called(SimulatedRunner(gpu, Kernels()))}
    told = {}
    for quantity in (Quantity.DEVICE, Quantity.LATENCY):
        timing = measure(participants, quantity, QUICK, gpu_context, L2.WARM, unsure, 0, clock=gpu.clock)
        told[quantity] = timing.environment.empty_pair_s
    assert told == {Quantity.DEVICE: 1.25e-6, Quantity.LATENCY: None}
