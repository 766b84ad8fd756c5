from __future__ import annotations

import gc

import pytest
import torch
from simulated_gpu import Kernels, SimulatedRunner, SimulatedTimer

from trtgate.case import L2, Execution, Quantity
from trtgate.errors import CaptureError, MeasurementError
from trtgate.measure.timing import Sampler, calm
from trtgate.policy import MeasureSettings

SETTINGS = MeasureSettings()


def sampler_on(gpu, context, quantity, kernels, l2=L2.WARM, settings=SETTINGS):
    timer = SimulatedTimer(gpu)
    runner = SimulatedRunner(gpu, kernels)
    return Sampler(runner, quantity, settings, context, l2, timer=timer, clock=gpu.clock), timer, runner


def test_device_time_leaves_out_the_gaps_between_launches(gpu, gpu_context):
    """40 kernels of 2 us whose launches take 10 us each: naive events see 400 us, the device works 80 us."""
    sampler, _, _ = sampler_on(gpu, gpu_context, Quantity.DEVICE, Kernels(40, 2e-6, 10e-6))
    assert sampler.sample() == pytest.approx(80e-6)
    assert not sampler.host_bound


def test_device_time_is_of_one_inference_that_follows_an_untimed_one(gpu, gpu_context):
    sampler, _, _ = sampler_on(gpu, gpu_context, Quantity.DEVICE, Kernels(2, 50e-6))
    assert sampler.sample() == pytest.approx(100e-6)
    assert gpu.log == ["spacer", "kernel", "kernel", "start", "kernel", "kernel", "stop"]


def test_a_cold_cache_is_flushed_in_place_of_the_untimed_inference(gpu, gpu_context):
    sampler, _, _ = sampler_on(gpu, gpu_context, Quantity.DEVICE, Kernels(1, 50e-6), L2.COLD)
    assert sampler.sample() == pytest.approx(50e-6)
    assert gpu.log == ["spacer", "flush", "start", "kernel", "stop"]


def test_the_spacer_doubles_until_all_launches_fit_behind_it_and_stays(gpu, gpu_context):
    """Launching two inferences takes 4 ms, their kernels next to nothing."""
    sampler, timer, _ = sampler_on(gpu, gpu_context, Quantity.DEVICE, Kernels(200, 1e-7, 10e-6))
    assert sampler.sample() == pytest.approx(200 * 1e-7)
    first = list(timer.holds_s)
    assert first == pytest.approx([SETTINGS.spacer_seconds * 2**i for i in range(len(first))])
    assert first[-1] > 3.9e-3 > first[-2] / 2
    sampler.sample()
    assert timer.holds_s == [*first, first[-1]]
    assert not sampler.host_bound


def test_what_cannot_be_queued_behind_the_longest_spacer_is_called_host_bound(gpu, gpu_context):
    sampler, timer, _ = sampler_on(gpu, gpu_context, Quantity.DEVICE, Kernels(100, 1e-6, 1e-3))
    seconds = sampler.sample()
    assert sampler.host_bound
    assert seconds > 0.09  # the host's launches are in it, and the flag says so
    assert max(timer.holds_s) == SETTINGS.max_spacer_seconds


def test_one_hiccup_of_the_host_is_not_host_bound(gpu, gpu_context):
    settings = MeasureSettings(spacer_seconds=0.02, max_spacer_seconds=0.02)
    sampler, timer, runner = sampler_on(gpu, gpu_context, Quantity.DEVICE, Kernels(1, 1e-4), settings=settings)
    hiccups = [0.03]
    enqueue = runner.enqueue

    def with_a_hiccup():
        if hiccups and "start" in gpu.log:
            gpu.host_s += hiccups.pop()
        enqueue()

    runner.enqueue = with_a_hiccup
    assert sampler.sample() == pytest.approx(1e-4)
    assert len(timer.holds_s) == 2
    assert not sampler.host_bound


def test_latency_is_what_a_caller_waits(gpu, gpu_context):
    sampler, _, runner = sampler_on(gpu, gpu_context, Quantity.LATENCY, Kernels(40, 2e-6, 10e-6))
    assert sampler.sample() == pytest.approx(40 * 10e-6 + 2e-6)
    assert runner.calls == 2


def test_latency_with_a_cold_cache_flushes_before_the_clock_starts(gpu, gpu_context):
    sampler, _, _ = sampler_on(gpu, gpu_context, Quantity.LATENCY, Kernels(1, 1e-4), L2.COLD)
    assert sampler.sample() == pytest.approx(1e-4 + 5e-6)
    assert gpu.log == ["kernel", "flush", "kernel"]


def test_throughput_hides_launches_behind_kernels(gpu, gpu_context):
    sampler, _, runner = sampler_on(gpu, gpu_context, Quantity.THROUGHPUT, Kernels(1, 100e-6, 5e-6))
    assert sampler.sample() == pytest.approx(100e-6, rel=0.01)
    before = runner.calls
    sampler.sample()
    burst = runner.calls - before
    assert burst * 100e-6 >= SETTINGS.throughput_seconds
    assert burst * 100e-6 < 2 * SETTINGS.throughput_seconds


def test_a_slow_model_still_gets_the_fewest_inferences_a_burst(gpu, gpu_context):
    sampler, _, runner = sampler_on(gpu, gpu_context, Quantity.THROUGHPUT, Kernels(1, 0.1))
    assert sampler.sample() == pytest.approx(0.1, rel=1e-3)
    assert runner.calls == 2 * SETTINGS.min_burst  # calibration and sample


@pytest.mark.parametrize(
    ("quantity", "l2"),
    [(Quantity.DEVICE, L2.WARM), (Quantity.LATENCY, L2.COLD), (Quantity.BUILD, L2.WARM)],
)
def test_a_quantity_that_does_not_exist_on_the_cpu_is_refused(gpu, cpu_context, quantity, l2):
    with pytest.raises(MeasurementError, match=r"cpu|no timing"):
        Sampler(SimulatedRunner(gpu, Kernels()), quantity, SETTINGS, cpu_context, l2)


def test_throughput_with_a_cold_cache_is_refused(gpu, gpu_context):
    with pytest.raises(MeasurementError, match="'throughput' with a cold L2"):
        sampler_on(gpu, gpu_context, Quantity.THROUGHPUT, Kernels(), L2.COLD)


def test_a_graph_that_was_not_captured_is_refused_and_one_that_was_is_taken(gpu, gpu_context):
    runner = SimulatedRunner(gpu, Kernels())
    arguments = (runner, Quantity.LATENCY, SETTINGS, gpu_context, L2.WARM, Execution.GRAPH)
    timer = SimulatedTimer(gpu)
    with pytest.raises(CaptureError, match="'r18' is measured as a CUDA graph and was not captured"):
        Sampler(*arguments, name="r18", timer=timer)
    runner.facts.captured = True
    Sampler(*arguments, name="r18", timer=timer)


def test_a_block_of_the_cpu_is_real_time_of_real_work(cpu_context, eager):
    small, large = eager(64), eager(1024)
    blocks = {}
    for name, runner in (("small", small), ("large", large)):
        sampler = Sampler(runner, Quantity.LATENCY, SETTINGS, cpu_context)
        sampler.warm_up()
        blocks[name] = sampler.sample_block(15)
    assert len(blocks["small"]) == 15
    # 4096 times the arithmetic; the fastest samples, because a busy machine delays the others by anything.
    assert min(blocks["large"]) > 10 * min(blocks["small"])


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_collection_is_off_while_sampling_and_as_before_afterwards(cpu_context, collecting):
    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        inside = []

        def fail():
            inside.append((gc.isenabled(), torch.is_inference_mode_enabled()))
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"), calm(cpu_context):
            fail()
        assert inside == [(False, True)]
        assert gc.isenabled() is collecting
        assert not torch.is_inference_mode_enabled()
    finally:
        (gc.enable if was else gc.disable)()
