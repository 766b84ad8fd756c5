"""Memory that a runner holds and that an inference takes on top, on a GPU or in this process."""

from __future__ import annotations

import ctypes
import gc
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from trtgate.backends.base import BuildContext, Runner
from trtgate.backends.cuda_device import device_memory_of, forget_cublas_workspaces
from trtgate.measure.device import Monitor
from trtgate.measure.neighbours import OwnMemory
from trtgate.measure.placement import infer, on_stream, place

_PROC: Final = Path("/proc/self")
_RESET_PEAK: Final = "5"  # proc(5), /proc/pid/clear_refs: set the peak resident size to the current one


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one build and its inferences take.

    On a GPU, growth of what NVML counts for this process (``device_process``). Where it does not count by process,
    growth of the memory in use on the whole device (``device``), which other processes disturb. Both show a runtime's
    own allocations, come in steps of 2 MiB and hold whatever a library loads on first use. Without a GPU, growth of
    this process's resident memory (``process``), with the same remark on libraries.

    Attributes:
        where: whose memory it is.
        held_bytes: after the first inference, with everything given back that can be.
        transient_bytes: what a further inference takes on top at its peak, in PyTorch's allocator; on the CPU, the
            resident peak of build and first inference above what is held.
        build_peak_bytes: peak of PyTorch's allocator while building; None on the CPU. A builder's own allocations that
            it gave back are not in it.
        weights_bytes: the part of ``held_bytes`` that is not activations, None where they cannot be told apart, as in
            the memory pool of a captured PyTorch graph.
        activations_bytes: what the runtime says it needs for them, else the transient part; None as above.
        allocated_bytes: growth of live tensors in PyTorch's allocator, exact and this process's own; None on the CPU. A
            runtime's own allocations are not in it.
        device_bytes: the total as the whole device shows it, to compare with rows that have nothing else; None on the
            CPU.
        whole_device_because: why ``held_bytes`` is of the whole device; empty where it is not.
        watched: whether other processes on the GPU would have been seen.
    """

    where: Literal["device_process", "device", "process"]
    held_bytes: int
    transient_bytes: int
    build_peak_bytes: int | None = None
    weights_bytes: int | None = None
    activations_bytes: int | None = None
    allocated_bytes: int | None = None
    device_bytes: int | None = None
    whole_device_because: str = ""
    watched: bool = False

    @property
    def total_bytes(self) -> int:
        """What must be free for the runner to work."""
        return self.held_bytes + self.transient_bytes

    def as_facts(self) -> dict[str, Any]:
        """Plain JSON for a record."""
        return {**asdict(self), "total_bytes": self.total_bytes}


@dataclass(frozen=True, slots=True)
class _Use:
    """Memory at one moment: on the device by everyone, by this process, and live tensors of PyTorch."""

    device_bytes: int
    own: OwnMemory
    allocated_bytes: int


def measure_build(
    make: Callable[[], Runner],
    inputs: Sequence[torch.Tensor],
    context: BuildContext,
    watch: Monitor | None = None,
) -> tuple[Runner, Footprint]:
    """Build a runner, bind it, run its first inference as the stage ``first_inference``, and measure its memory.

    Args:
        make: builds the runner with ``context``.
        inputs: to bind; on any device.
        context: the device, the stream and the stopwatch.
        watch: entered; notes who else is on the GPU. By default one that nobody reads.

    Returns:
        The runner, bound to ``inputs``, and its memory. The caller closes it; it is closed here if it fails.

    Raises:
        OutOfDeviceMemoryError: the inputs or the first inference do not fit.
        TrtgateError: whatever building raises.
    """
    if context.stream is None:
        return _in_process(make, inputs, context)
    return _on_gpu(make, inputs, context, watch or Monitor(context.device))


def _on_gpu(
    make: Callable[[], Runner], inputs: Sequence[torch.Tensor], context: BuildContext, watch: Monitor
) -> tuple[Runner, Footprint]:
    device = context.device
    before = _used_on(device, watch)
    torch.cuda.reset_peak_memory_stats(device)
    runner = make()
    try:
        watch.meet()
        build_peak = torch.cuda.max_memory_allocated(device) - before.allocated_bytes
        _first_inference(runner, inputs, context)
        after = _used_on(device, watch)
        torch.cuda.reset_peak_memory_stats(device)
        with on_stream(context):
            infer(runner, context)
        transient = max(0, torch.cuda.max_memory_allocated(device) - after.allocated_bytes)
        watch.meet()
    except BaseException:
        runner.close()
        raise
    # A small model fits into blocks that the allocator already had; then only its own count shows it.
    allocated = max(0, after.allocated_bytes - before.allocated_bytes)
    on_device = max(after.device_bytes - before.device_bytes, allocated)
    why_not = before.own.reason or after.own.reason
    held = on_device
    if before.own.held_bytes is not None and after.own.held_bytes is not None:
        held = max(after.own.held_bytes - before.own.held_bytes, allocated)
    said = runner.facts.device_memory_bytes
    told_apart = said is not None or not runner.facts.captured
    return runner, Footprint(
        where="device" if why_not else "device_process",
        held_bytes=held,
        transient_bytes=transient,
        build_peak_bytes=max(0, build_peak),
        weights_bytes=max(0, held - (said or 0)) if told_apart else None,
        activations_bytes=(transient if said is None else said) if told_apart else None,
        allocated_bytes=allocated,
        device_bytes=on_device + transient,
        whole_device_because=why_not,
        watched=watch.sees_neighbours,
    )


def _in_process(
    make: Callable[[], Runner], inputs: Sequence[torch.Tensor], context: BuildContext
) -> tuple[Runner, Footprint]:
    before = _resident_bytes()
    _forget_resident_peak()
    runner = make()
    try:
        _first_inference(runner, inputs, context)
    except BaseException:
        runner.close()
        raise
    peak = _resident_peak_bytes()
    held = max(0, _resident_bytes() - before)
    return runner, Footprint(where="process", held_bytes=held, transient_bytes=max(0, peak - before - held))


def _first_inference(runner: Runner, inputs: Sequence[torch.Tensor], context: BuildContext) -> None:
    with on_stream(context), device_memory_of("The first inference"):
        runner.bind(place(inputs, context))
        with context.stopwatch.stage("first_inference"):
            infer(runner, context)


def _used_on(device: torch.device, watch: Monitor) -> _Use:
    """What is in use once nothing is held without need.

    Workspaces of cuBLAS are no model's: a build that records a CUDA graph frees what another runner had allocated.
    """
    gc.collect()
    torch.cuda.synchronize(device)
    forget_cublas_workspaces()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    own = watch.own_memory(torch.cuda.memory_reserved(device))
    return _Use(total - free, own, torch.cuda.memory_allocated(device))


def _resident_bytes() -> int:
    """Resident memory of this process once the C library has given free pages back; 0 where Linux's /proc is not."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    try:
        pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _forget_resident_peak() -> None:
    try:
        (_PROC / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return  # a kernel without page monitoring: the peak is then the process's own, which is an upper bound


def _resident_peak_bytes() -> int:
    try:
        status = (_PROC / "status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
