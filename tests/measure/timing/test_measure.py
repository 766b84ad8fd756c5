from __future__ import annotations

import pytest

from trtgate.case import L2, Quantity
from trtgate.errors import CaptureError, MeasurementError
from trtgate.measure.device import Monitor
from trtgate.measure.timing import measure
from trtgate.policy import MeasureSettings

QUICK = MeasureSettings(min_rounds=10, max_rounds=20, block_rounds=5, seconds=60, warmup_seconds=0.5)


def never(candidate, baselines):
    return False


@pytest.mark.parametrize("quantity", [Quantity.LATENCY, Quantity.THROUGHPUT])
def test_a_real_speedup_on_the_cpu(cpu_context, eager, quantity):
    timing = measure(eager(128), {"eager": eager(1024)}, quantity, QUICK, cpu_context, L2.WARM, never, 0)
    assert len(timing.samples_s) == len(timing.baselines_s["eager"]) >= 10
    # 512 times the arithmetic; the fastest samples, because a busy machine delays the others by anything.
    assert min(timing.baselines_s["eager"]) > 5 * min(timing.samples_s)
    assert timing.environment.kept_blocks >= 2
    assert timing.environment.discarded_blocks == 0
    assert timing.environment.sm_clock_mhz is None


def test_without_a_baseline_it_measures_the_candidate_alone(cpu_context, eager):
    asked = []

    def settled(candidate, baselines):
        asked.append((len(candidate), dict(baselines)))
        return True

    timing = measure(eager(64), {}, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, settled, 0)
    assert timing.baselines_s == {}
    assert asked == [(10, {})]


def test_a_graphed_baseline_must_have_been_captured(cpu_context, eager):
    with pytest.raises(CaptureError, match="'eager_graph'"):
        measure(eager(8), {"eager_graph": eager(8)}, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, never, 0)


def test_device_time_needs_a_gpu(cpu_context, eager):
    with pytest.raises(MeasurementError, match="Device time was asked for on the device 'cpu'"):
        measure(eager(8), {}, Quantity.DEVICE, QUICK, cpu_context, L2.WARM, never, 0)


class Throttled(Monitor):
    """A monitor whose third look finds the GPU throttled."""

    looks = 0

    def look(self):
        self.looks += 1
        return ("hw_slowdown",) if self.looks == 3 else ()


def test_what_the_monitor_saw_is_in_the_environment(cpu_context, eager):
    timing = measure(
        eager(64), {}, Quantity.LATENCY, QUICK, cpu_context, L2.WARM, never, 0, monitor=Throttled(cpu_context.device)
    )
    assert timing.environment.discarded_blocks == 1
    assert len(timing.samples_s) == 5 * timing.environment.kept_blocks
