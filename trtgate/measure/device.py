"""Which machine this is, and in what state its GPU is while it is measured."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib import metadata
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import torch

from trtgate.backends import trt_runtime
from trtgate.backends.cuda_device import cuda_answer
from trtgate.backends.host_cpu import cpu_model
from trtgate.measure import nvml
from trtgate.measure.neighbours import Neighbours, OwnMemory, neighbours
from trtgate.record import LESS_EMPTY_PAIR, Environment, Identity

# Reasons that make a block worthless. Not among them: sw_power_cap, the steady state of a large GPU under a heavy
# model. It follows from the model itself, so such blocks would be thrown away for ever, it holds candidate and
# baseline alike, and it is recorded. The clock settings and sync boost are the owner's choice and recorded too.
DISQUALIFYING: Final = frozenset(
    {"hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown"}
)
_COUNTED_NS: Final = 1_000_000  # a millisecond of throttling in a block shows in its median; less is a clock switch

_Number = TypeVar("_Number", int, float)


@dataclass(slots=True)
class _Seen:
    """Every reading since a measurement began."""

    sm_clock_mhz: list[int] = field(default_factory=list)
    memory_clock_mhz: list[int] = field(default_factory=list)
    temperature_c: list[int] = field(default_factory=list)
    power_w: list[float] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)
    neighbours: set[int] = field(default_factory=set)
    computed: set[int] = field(default_factory=set)  # by another id than this process's
    computed_us: int | None = None  # the driver's newest sample of who computed; None before the first look
    counted_ns: dict[str, int] = field(default_factory=dict)


class Monitor:
    """Watches one GPU through NVML, and sees nothing where there is no GPU or no NVML.

    As a context manager it starts afresh on entry, with a look at who is on the GPU. `look` stands between blocks of
    samples, `meet` at the turns of what takes no samples, and `environment` sums up. Each takes milliseconds, and none
    stands in what is timed.

    Args:
        device: what is measured; None is torch's current CUDA device where CUDA works, else the CPU.
        gpu: stands in for NVML's view of the device.
        others: tells this process from the others there; by default what is known of the device's.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        *,
        gpu: nvml.Nvml | None = None,
        others: Neighbours | None = None,
    ) -> None:
        index = _index_of(device) if gpu is None else None
        self._gpu = gpu if index is None else nvml.gpu(index)
        self._others = others if index is None else neighbours(index)
        self._seen = _Seen()

    def __enter__(self) -> Self:
        self._seen = _Seen()
        self.meet()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """NVML stays open for the next measurement; the operating system closes it with the process."""

    def look(self) -> tuple[str, ...]:
        """Read clocks, temperature, power, throttling and who else computes on the GPU.

        Returns:
            Reasons to throw away what was measured since the last look, sorted; empty when there are none.
        """
        if self._gpu is None:
            return ()
        for seen, value in (
            (self._seen.sm_clock_mhz, self._gpu.sm_clock_mhz()),
            (self._seen.memory_clock_mhz, self._gpu.memory_clock_mhz()),
            (self._seen.temperature_c, self._gpu.temperature_c()),
        ):
            if value is not None:
                seen.append(value)
        power_w = self._gpu.power_w()
        if power_w is not None:
            self._seen.power_w.append(power_w)
        self.meet()
        counted_ns = self._gpu.throttled_ns()
        reasons = self._gpu.clock_reasons() | {
            reason
            for reason, now_ns in counted_ns.items()
            if now_ns - self._seen.counted_ns.get(reason, now_ns) >= _COUNTED_NS
        }
        self._seen.counted_ns = dict(counted_ns)
        self._seen.reasons |= reasons
        return tuple(sorted(reasons & DISQUALIFYING))

    def meet(self) -> None:
        """Note who else is on the GPU, and who computed there since the last look and has gone again."""
        if self._others is None:
            return
        self._seen.neighbours |= self._others.present()
        computed, newest_us = self._others.computed_since(self._seen.computed_us or 0)
        if self._seen.computed_us is not None:  # what was before the first look is not this measurement's
            self._seen.computed |= computed
        if self._others.are_others(self._seen.computed):  # also of what was seen before that was settled
            self._seen.neighbours |= self._seen.computed
        self._seen.computed_us = newest_us

    def environment(
        self,
        *,
        kept_blocks: int = 0,
        discarded_blocks: int = 0,
        steady: bool = True,
        family: Collection[int] = (),
    ) -> Environment:
        """What was seen since the beginning, with what the measurement says of itself.

        Args:
            kept_blocks: blocks of samples.
            discarded_blocks: blocks that were thrown away.
            steady: whether warm-up ended with steady times.
            family: process ids that belong to the measurement beside this process, such as the other side of a gate.
        """
        self.meet()
        return Environment(
            sm_clock_mhz=_range(self._seen.sm_clock_mhz),
            memory_clock_mhz=_range(self._seen.memory_clock_mhz),
            temperature_c=_range(self._seen.temperature_c),
            power_w=_range(self._seen.power_w),
            throttle_reasons=tuple(sorted(self._seen.reasons)),
            neighbours=tuple(sorted(self._seen.neighbours.difference(family))),
            discarded_blocks=discarded_blocks,
            kept_blocks=kept_blocks,
            steady=steady,
        )

    def memory_used_bytes(self) -> int | None:
        """Device memory in use by every process, None where nobody knows."""
        return None if self._gpu is None else self._gpu.memory_used_bytes()

    @property
    def own_ids(self) -> frozenset[int]:
        """What NVML may call this process; empty where nobody looks at its device."""
        return frozenset() if self._others is None else self._others.ids

    @property
    def sees_neighbours(self) -> bool:
        """Whether anybody else would be seen at all."""
        return self._others is not None and self._others.can_be_seen

    def own_memory(self, reserved_bytes: int) -> OwnMemory:
        """Device memory that this process holds, of which PyTorch alone holds so much."""
        if self._others is None:
            return OwnMemory(None, "There is no NVML here.")
        return self._others.own_memory(reserved_bytes)


def cuda_problem() -> str | None:
    """Why PyTorch cannot use a GPU here, in one sentence; None when it can."""
    answer = cuda_answer()
    return None if answer else answer.reason


def gpu_uuid() -> str | None:
    """What names the GPU that torch computes on here, the same for every process of this machine; None without one."""
    if cuda_problem() is not None:
        return None
    properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"GPU-{properties.uuid}"


def identity() -> Identity:
    """The machine and stack of this process."""
    usable = cuda_problem() is None
    flavour, version = trt_runtime.versions()
    index = torch.cuda.current_device() if usable else 0
    seen = nvml.gpu(index) if usable else None
    capability = torch.cuda.get_device_capability(index) if usable else None
    return Identity(
        gpu=((seen.name() if seen else None) or torch.cuda.get_device_name(index)) if usable else None,
        architecture=f"sm_{capability[0]}{capability[1]}" if capability else None,
        driver=nvml.driver_version() if usable else None,
        cuda=torch.version.cuda,
        tensorrt_flavour=flavour,
        tensorrt=version,
        torch_tensorrt=_installed("torch-tensorrt", "torch-tensorrt-rtx"),
        torch=torch.__version__,
        onnxruntime=_installed("onnxruntime-gpu", "onnxruntime"),
        cpu=cpu_model(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        device_clock=LESS_EMPTY_PAIR,
    )


def _index_of(device: torch.device | None) -> int | None:
    """Torch's number of the GPU, None where nothing is computed on one."""
    if device is not None and device.type != "cuda":
        return None
    if cuda_problem() is not None:
        return None
    return device.index if device is not None and device.index is not None else torch.cuda.current_device()


def _installed(*distributions: str) -> str | None:
    """Version of the first of these distributions that is installed."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _range(values: list[_Number]) -> tuple[_Number, _Number] | None:
    return (min(values), max(values)) if values else None
