"""A GPU as a timeline: launches cost the host time, kernels queue behind one another, events are points on the line."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace

from trtgate.backends.base import Runner


class SimulatedGpu:
    """Host and device time in seconds; `clock` is the host's."""

    def __init__(self):
        self.host_s = 0.0
        self.free_s = 0.0  # when the device has done everything that is queued
        self.log = []

    def clock(self):
        return self.host_s

    def launch(self, name, device_s, host_s=5e-6):
        self.host_s += host_s
        self.free_s = max(self.free_s, self.host_s) + device_s
        self.log.append(name)

    def synchronize(self):
        """As a stream's."""
        self.host_s = max(self.host_s, self.free_s)

    def passed(self):
        """When the device passes an event that is recorded now."""
        return max(self.free_s, self.host_s)


class SimulatedTimer:
    """The events of `trtgate.measure.timing.events.DeviceTimer` on a simulated GPU, which take no time there."""

    empty_pair_s = 0.0

    def __init__(self, gpu):
        self.gpu = gpu
        self.holds_s = []

    def hold(self, seconds):
        self.holds_s.append(seconds)
        self.gpu.launch("spacer", seconds)

    def flush_l2(self):
        self.gpu.launch("flush", 50e-6)

    def start(self):
        self.gpu.log.append("start")
        self.opening_s = self.gpu.passed()

    def stop(self):
        self.gpu.log.append("stop")
        self.closing_s = self.gpu.passed()

    def started(self):
        return self.gpu.host_s >= self.opening_s

    def elapsed_s(self):
        self.gpu.synchronize()
        return self.closing_s - self.opening_s


@dataclass
class Kernels:
    """A model: so many kernels, each costing the host and the device so much."""

    count: int = 1
    device_s: float = 100e-6
    host_s: float = 5e-6


class SimulatedRunner(Runner):
    def __init__(self, gpu, kernels):
        super().__init__()
        self.gpu = gpu
        self.kernels = kernels
        self.calls = 0

    def bind(self, inputs):
        pass

    def enqueue(self):
        self.calls += 1
        for _ in range(self.kernels.count):
            self.gpu.launch("kernel", self.kernels.device_s, self.kernels.host_s)

    def outputs(self):
        return ()

    def close(self):
        pass


class NVMLError(Exception):
    pass


class SimulatedNvml:
    """The bindings of NVML, for the processes on one GPU.

    `held` is the memory of each process by the id that NVML calls it, None where it tells none. `me` is what it calls
    the process that asks. `computed` is what the driver sampled: ids with the microsecond of the sample.
    """

    NVMLError = NVMLError
    NVML_SUCCESS = 0
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, held=None, me=None):
        self.held = held or {}
        self.me = me
        self.computed = []
        self.lists = True

    @contextlib.contextmanager
    def probe(self, size=80 * 2**20, context=500 * 2**20):
        """As the asking process, hold memory; the first makes its context, which stays."""
        if self.me is None:
            yield size
            return
        before = self.held.get(self.me, context)
        self.held[self.me] = None if before is None else before + size
        yield size
        self.held[self.me] = before

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        if not self.lists:
            raise NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self.held.items()]

    def nvmlDeviceGetProcessUtilization(self, handle, moment_us):
        found = [
            SimpleNamespace(pid=pid, timeStamp=at_us, smUtil=load, memUtil=0)
            for pid, at_us, load in self.computed
            if at_us > moment_us
        ]
        if not found:
            raise NVMLError("Not Found")
        return found
