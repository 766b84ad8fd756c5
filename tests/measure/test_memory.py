from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
import torch

from trtgate.backends.base import BuildContext, Runner
from trtgate.measure.memory import measure_build
from trtgate.measure.timing import BuildStopwatch

MIB = 2**20


class Hoard(Runner):
    """Holds so many bytes, and takes more during its first inference."""

    def __init__(self, held, transient=0):
        super().__init__()
        self.held = torch.ones(held, dtype=torch.uint8)
        self.transient = transient
        self.bound = self.closed = False
        self.error = None

    def bind(self, inputs):
        self.bound = inputs

    def enqueue(self):
        if self.error:
            raise self.error
        torch.ones(self.transient, dtype=torch.uint8)

    def outputs(self):
        return ()

    def close(self):
        self.closed = True


def test_held_and_transient_memory_of_this_process(cpu_context):
    runner, footprint = measure_build(lambda: Hoard(64 * MIB, 32 * MIB), (torch.ones(1),), cpu_context)
    assert footprint.where == "process"
    assert footprint.held_bytes == pytest.approx(64 * MIB, abs=4 * MIB)
    assert footprint.transient_bytes == pytest.approx(32 * MIB, abs=4 * MIB)
    assert footprint.total_bytes == footprint.held_bytes + footprint.transient_bytes
    assert runner.bound == (torch.ones(1),)
    assert not runner.closed


def test_a_small_model_after_a_large_one_is_not_hidden_in_pages_that_were_freed(cpu_context):
    del_me, _ = measure_build(lambda: Hoard(64 * MIB), (), cpu_context)
    del del_me
    _, footprint = measure_build(lambda: Hoard(8 * MIB), (), cpu_context)
    assert footprint.held_bytes == pytest.approx(8 * MIB, abs=2 * MIB)


def test_the_first_inference_is_a_build_stage(cpu_context):
    measure_build(lambda: Hoard(1), (), cpu_context)
    assert list(cpu_context.stopwatch.seconds) == ["first_inference"]
    assert cpu_context.stopwatch.seconds["first_inference"] > 0


def test_facts_are_plain_json(cpu_context):
    _, footprint = measure_build(lambda: Hoard(1 * MIB), (), cpu_context)
    facts = json.loads(json.dumps(footprint.as_facts()))
    assert facts["where"] == "process"
    assert facts["total_bytes"] == footprint.total_bytes
    assert facts["weights_bytes"] is None


def test_a_runner_whose_first_inference_fails_is_closed(cpu_context):
    runner = Hoard(1)
    runner.error = RuntimeError("illegal instruction")
    with pytest.raises(RuntimeError, match="illegal instruction"):
        measure_build(lambda: runner, (), cpu_context)
    assert runner.closed


class Device:
    """A GPU's memory as torch reports it: what torch allocated, its peak, and what anyone else did."""

    def __init__(self, monkeypatch):
        self.torch_bytes = self.peak = self.other_bytes = 0
        for name, stand_in in {
            "synchronize": lambda device: None,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device: (1000 * MIB - self.torch_bytes - self.other_bytes, 1000 * MIB),
            "memory_allocated": lambda device: self.torch_bytes,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": lambda device: setattr(self, "peak", self.torch_bytes),
            "stream": lambda stream: contextlib.nullcontext(),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    def allocate(self, size):
        self.torch_bytes += size
        self.peak = max(self.peak, self.torch_bytes)


class OnDevice(Hoard):
    def __init__(self, device, weights, activations, *, by_torch):
        super().__init__(1)
        self.device = device
        self.activations = activations
        device.allocate(weights * 3)  # the builder's scratch
        device.allocate(-weights * 3)
        if by_torch:
            device.allocate(weights)
        else:
            device.other_bytes += weights + activations
            self.facts.device_memory_bytes = activations

    def enqueue(self):
        if self.facts.device_memory_bytes is None:
            self.device.allocate(self.activations)
            self.device.allocate(-self.activations)


@pytest.mark.parametrize("by_torch", [True, False])
def test_weights_and_activations_on_a_gpu(monkeypatch, tmp_path, by_torch):
    device = Device(monkeypatch)
    device.allocate(5 * MIB)
    device.other_bytes = 300 * MIB
    stream = SimpleNamespace(synchronize=lambda: None)
    context = BuildContext(torch.device("cpu"), stream, tmp_path, BuildStopwatch())
    _, footprint = measure_build(lambda: OnDevice(device, 40 * MIB, 16 * MIB, by_torch=by_torch), (), context)
    assert footprint.where == "device"
    assert footprint.weights_bytes == 40 * MIB
    assert footprint.activations_bytes == 16 * MIB
    assert footprint.total_bytes == 56 * MIB
    assert footprint.build_peak_bytes == 120 * MIB


def test_a_captured_graph_does_not_tell_weights_from_activations(monkeypatch, tmp_path):
    device = Device(monkeypatch)
    context = BuildContext(torch.device("cpu"), SimpleNamespace(synchronize=lambda: None), tmp_path, BuildStopwatch())

    def make():
        runner = OnDevice(device, 40 * MIB, 0, by_torch=True)
        runner.facts.captured = True
        return runner

    _, footprint = measure_build(make, (), context)
    assert footprint.weights_bytes is footprint.activations_bytes is None
    assert footprint.held_bytes == 40 * MIB
