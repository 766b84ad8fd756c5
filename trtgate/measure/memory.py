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
from trtgate.measure.placement import infer, on_stream, place

_PROC: Final = Path("/proc/self")
_RESET_PEAK: Final = "5"  # proc(5), /proc/pid/clear_refs: set the peak resident size to the current one


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one build and its inferences take.

    On a GPU, growth of the memory in use on the whole device, which is what a runtime's own allocations can be seen by;
    it comes in steps of 2 MiB, holds whatever a library loads on first use, and is disturbed by other processes.
    Without a GPU, growth of this process's resident memory, with the same remark on libraries.

    Attributes:
        where: what the bytes are of.
        held_bytes: after the first inference, with everything given back that can be.
        transient_bytes: what a further inference takes on top at its peak, in PyTorch's allocator; on the CPU, the
            resident peak of build and first inference above what is held.
        build_peak_bytes: peak of PyTorch's allocator while building; None on the CPU. A builder's own allocations that
            it gave back are not in it.
        weights_bytes: the part of ``held_bytes`` that is not activations, None where they cannot be told apart, as in
            the memory pool of a captured PyTorch graph.
        activations_bytes: what the runtime says it needs for them, else the transient part; None as above.
    """

    where: Literal["device", "process"]
    held_bytes: int
    transient_bytes: int
    build_peak_bytes: int | None = None
    weights_bytes: int | None = None
    activations_bytes: int | None = None

    @property
    def total_bytes(self) -> int:
        """What must be free for the runner to work."""
        return self.held_bytes + self.transient_bytes

    def as_facts(self) -> dict[str, Any]:
        """Plain JSON for a record."""
        return {**asdict(self), "total_bytes": self.total_bytes}


def measure_build(
    make: Callable[[], Runner], inputs: Sequence[torch.Tensor], context: BuildContext
) -> tuple[Runner, Footprint]:
    """Build a runner, bind it, run its first inference as the stage ``first_inference``, and measure its memory.

    Args:
        make: builds the runner with ``context``.
        inputs: to bind; on any device.
        context: the device, the stream and the stopwatch.

    Returns:
        The runner, bound to ``inputs``, and its memory. The caller closes it; it is closed here if it fails.

    Raises:
        OutOfDeviceMemoryError: the inputs or the first inference do not fit.
        TrtgateError: whatever building raises.
    """
    return (_on_gpu if context.stream is not None else _in_process)(make, inputs, context)


def _on_gpu(
    make: Callable[[], Runner], inputs: Sequence[torch.Tensor], context: BuildContext
) -> tuple[Runner, Footprint]:
    device = context.device
    used_before, allocated_before = _used_on(device)
    torch.cuda.reset_peak_memory_stats(device)
    runner = make()
    try:
        build_peak = torch.cuda.max_memory_allocated(device) - allocated_before
        _first_inference(runner, inputs, context)
        used, allocated = _used_on(device)
        torch.cuda.reset_peak_memory_stats(device)
        with on_stream(context):
            infer(runner, context)
        transient = max(0, torch.cuda.max_memory_allocated(device) - allocated)
    except BaseException:
        runner.close()
        raise
    # A small model fits into blocks that the allocator already had; then only its own count shows it.
    held = max(used - used_before, allocated - allocated_before, 0)
    said = runner.facts.device_memory_bytes
    told_apart = said is not None or not runner.facts.captured
    return runner, Footprint(
        where="device",
        held_bytes=held,
        transient_bytes=transient,
        build_peak_bytes=max(0, build_peak),
        weights_bytes=max(0, held - (said or 0)) if told_apart else None,
        activations_bytes=(transient if said is None else said) if told_apart else None,
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


def _used_on(device: torch.device) -> tuple[int, int]:
    """Bytes in use on the device, by everyone, and bytes of live tensors, once nothing is held without need.

    Workspaces of cuBLAS are no model's: a build that records a CUDA graph frees what another runner had allocated.
    """
    gc.collect()
    torch.cuda.synchronize(device)
    forget_cublas_workspaces()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return total - free, torch.cuda.memory_allocated(device)


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
