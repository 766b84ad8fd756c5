"""A GPU as a timeline: launches cost the host time, kernels queue behind one another, events are points on the line."""

from __future__ import annotations

from dataclasses import dataclass

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
    """The events of `trtgate.measure.timing.events.DeviceTimer` on a simulated GPU."""

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
