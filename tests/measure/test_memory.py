from __future__ import annotations

import contextlib
import json
import os
from types import SimpleNamespace

import pytest
import torch
from simulated_gpu import SimulatedNvml

from trtgate.backends.base import BuildContext, Runner
from trtgate.measure.device import Monitor
from trtgate.measure.memory import measure_build
from trtgate.measure.neighbours import Neighbours
from trtgate.measure.nvml import Nvml
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
    """A GPU's memory as torch reports it: what torch allocated, its peak, and what a runtime and others took."""

    def __init__(self, monkeypatch):
        self.torch_bytes = self.peak = self.runtime_bytes = self.other_bytes = 0
        for name, stand_in in {
            "synchronize": lambda device: None,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device: (1000 * MIB - self.own_bytes - self.other_bytes, 1000 * MIB),
            "memory_allocated": lambda device: self.torch_bytes,
            "memory_reserved": lambda device: self.torch_bytes,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": lambda device: setattr(self, "peak", self.torch_bytes),
            "stream": lambda stream: contextlib.nullcontext(),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    @property
    def own_bytes(self):
        return self.torch_bytes + self.runtime_bytes

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
            device.runtime_bytes += weights + activations
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


class CountedDevice(SimulatedNvml):
    """NVML's view of a `Device`: this process, its context included, and a neighbour."""

    def __init__(self, device, *, tells=True, neighbour=4711):
        super().__init__()
        self.device, self.tells, self.neighbour = device, tells, neighbour

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        self.held = {os.getpid(): 500 * MIB + self.device.own_bytes if self.tells else None}
        if self.device.other_bytes:
            self.held[self.neighbour] = self.device.other_bytes
        return super().nvmlDeviceGetComputeRunningProcesses(handle)


def measured_beside_a_neighbour(monkeypatch, tmp_path, before, after, **seen):
    """What a 56 MiB engine seems to take while a neighbour's memory changes."""
    device = Device(monkeypatch)
    device.other_bytes = before
    gpu = Nvml(CountedDevice(device, **seen), "handle")
    watch = Monitor(torch.device("cpu"), gpu=gpu, others=Neighbours(gpu, contextlib.nullcontext))
    context = BuildContext(torch.device("cpu"), SimpleNamespace(synchronize=lambda: None), tmp_path, BuildStopwatch())

    def make():
        device.other_bytes = after
        return OnDevice(device, 40 * MIB, 16 * MIB, by_torch=False)

    with watch:
        _, footprint = measure_build(make, (), context, watch)
    return footprint, watch.environment().neighbours


@pytest.mark.parametrize(("before", "after"), [(0, 0), (300 * MIB, 0), (0, 470 * MIB), (470 * MIB, 138 * MIB)])
def test_memory_is_this_process_s_own_whatever_its_neighbours_take_and_give_back(monkeypatch, tmp_path, before, after):
    footprint, neighbours = measured_beside_a_neighbour(monkeypatch, tmp_path, before, after)
    assert (footprint.where, footprint.whole_device_because, footprint.watched) == ("device_process", "", True)
    assert (footprint.total_bytes, footprint.weights_bytes) == (56 * MIB, 40 * MIB)
    assert footprint.device_bytes == max(56 * MIB + after - before, 0)  # what rows of before hold
    assert neighbours == ((4711,) if before or after else ())


def test_where_nvml_does_not_count_by_process_the_row_says_that_and_who_else_was_there(monkeypatch, tmp_path):
    footprint, neighbours = measured_beside_a_neighbour(monkeypatch, tmp_path, 0, 470 * MIB, tells=False)
    assert footprint.where == "device"
    assert footprint.total_bytes == footprint.device_bytes == 526 * MIB
    assert footprint.whole_device_because == "NVML does not tell what a process holds here."
    assert footprint.watched
    assert neighbours == (4711,)


def test_a_device_that_nobody_watched_says_so(monkeypatch, tmp_path):
    device = Device(monkeypatch)
    context = BuildContext(torch.device("cpu"), SimpleNamespace(synchronize=lambda: None), tmp_path, BuildStopwatch())
    _, footprint = measure_build(lambda: OnDevice(device, 40 * MIB, 16 * MIB, by_torch=True), (), context)
    assert (footprint.where, footprint.watched) == ("device", False)
    assert footprint.whole_device_because == "There is no NVML here."
    assert footprint.allocated_bytes == 40 * MIB


def test_a_neighbour_that_was_there_only_while_a_build_ran_is_seen(monkeypatch, tmp_path):
    device = Device(monkeypatch)
    gpu = Nvml(CountedDevice(device), "handle")
    watch = Monitor(torch.device("cpu"), gpu=gpu, others=Neighbours(gpu, contextlib.nullcontext))
    context = BuildContext(torch.device("cpu"), SimpleNamespace(synchronize=lambda: None), tmp_path, BuildStopwatch())

    class Passing(OnDevice):
        def bind(self, inputs):
            device.other_bytes = 0

    def make():
        device.other_bytes = 100 * MIB
        return Passing(device, 40 * MIB, 0, by_torch=True)

    with watch:
        measure_build(make, (), context, watch)
    assert watch.environment().neighbours == (4711,)
