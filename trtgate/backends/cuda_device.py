"""Whether a CUDA device can be used, why not, and what to say when its memory runs out."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trtgate.backends.base import YES, Answer, no
from trtgate.case import Precision
from trtgate.errors import OutOfDeviceMemoryError

_MIB = 2**20
# What the CUDA runtime, cuBLAS and ONNX Runtime's arena say where PyTorch's allocator had no say.
_OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "Failed to allocate memory")


def cuda_answer() -> Answer:
    """Whether PyTorch can use a CUDA device here; the reason tells a missing device from a driver that is too old."""
    if torch.version.cuda is None:
        return no(f"PyTorch {torch.__version__} is built without CUDA.")
    if torch.cuda.is_available():
        return YES
    return no(_why_cuda_is_unavailable())


@functools.cache
def _why_cuda_is_unavailable() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        text = str(error)
    else:
        return "CUDA was initialised, but no device is visible (is CUDA_VISIBLE_DEVICES empty?)."
    found = " ".join(text.split())
    if "too old" in found:
        return f"The NVIDIA driver is too old for CUDA {torch.version.cuda}, which PyTorch is built for ({found})"
    if "no nvidia driver" in found.lower():
        return "There is no NVIDIA GPU here, or no driver for it."
    return f"CUDA cannot be initialised: {found.rstrip('.')}."


def precision_answer(precision: Precision) -> Answer:
    """Whether the current device has the units of a precision; yes where there is no device that could lack them."""
    gpu = cuda_answer()
    if not gpu:
        return no(f"TF32 exists only on an NVIDIA GPU: {gpu.reason}") if precision is Precision.TF32 else YES
    needed = {Precision.TF32: (8, 0), Precision.BF16: (8, 0), Precision.FP8: (8, 9)}.get(precision, (0, 0))
    found = torch.cuda.get_device_capability()
    if found < needed:
        return no(
            f"{precision} needs compute capability {needed[0]}.{needed[1]} or newer, "
            f"and this GPU has {found[0]}.{found[1]}."
        )
    return YES


@contextmanager
def device_memory_of(what: str) -> Iterator[None]:
    """Turn PyTorch's out-of-memory error into ours, which names the case and says how full the device is.

    Args:
        what: the case's id.

    Raises:
        OutOfDeviceMemoryError: the body ran out of device memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # The frames below hold the very tensors that did not fit, and an error may be kept for a report.
        traceback.clear_frames(error.__traceback__)
        raise out_of_memory(what, str(error)) from error.with_traceback(None)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a library ran out of device memory: PyTorch's allocator, or the CUDA runtime and cuBLAS below it."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY)


def is_lost() -> bool:
    """Whether this process's CUDA context is broken for good, as after an illegal access: later calls all fail."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def forget_cublas_workspaces() -> None:
    """Give back the workspaces that PyTorch keeps for cuBLAS, one a stream; the next multiplication allocates anew."""
    torch._C._cuda_clearCublasWorkspaces()


def out_of_memory(what: str, detail: str) -> OutOfDeviceMemoryError:
    """The error for a case that did not fit, with what the library said in its first two sentences."""
    state = ""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        free, total = torch.cuda.mem_get_info()
        state = f" ({free // _MIB} of {total // _MIB} MiB free)"
    said = ". ".join(" ".join(detail.split()).split(". ")[:2]).rstrip(".")
    return OutOfDeviceMemoryError(
        f"{what} ran out of GPU memory{state}: {said}.",
        "Use a smaller batch or sequence, or stop the other processes on this GPU.",
    )
