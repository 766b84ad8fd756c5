"""Which GPU PyTorch would compute on, told by NVML: to ask torch takes half a gigabyte and seconds.

NVML and CUDA number GPUs differently, and CUDA_VISIBLE_DEVICES hides and reorders them. So a GPU is told only where the
numbering does not matter: there is one, all of them are of one kind, or a UUID names it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class _Gpu:
    name: str
    compute_capability: str
    uuid: str
    sliced: bool  # by MIG: CUDA then sees a slice, under a name of its own


def hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every GPU on purpose."""
    return os.environ.get(_VISIBLE, "all").strip() in ("", "-1")


def gpu() -> dict[str, object] | None:
    """What a compiled artefact depends on, as `trtgate.backends.trt_build.gpu_key` tells it by torch.

    Returns:
        None where NVML cannot tell which GPU torch would use: several kinds, MIG, no NVML.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        with _session(pynvml):
            found = _candidates([_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())])
            driver = _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
    kinds = {(one.name, one.compute_capability) for one in found}
    if len(kinds) != 1 or any(one.sliced for one in found):
        return None
    ((name, capability),) = kinds
    return {"gpu": name, "compute_capability": capability, "driver": driver}


def driver_version() -> str | None:
    """Version of the NVIDIA driver; None without NVML, in a container without it, say."""
    import pynvml

    try:
        with _session(pynvml):
            return _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


@contextlib.contextmanager
def _session(pynvml: Any) -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _read(pynvml: Any, index: int) -> _Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
    return _Gpu(name, f"sm_{major}{minor}", uuid, _sliced(pynvml, handle))


def _sliced(pynvml: Any, handle: Any) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if getattr(error, "value", None) == pynvml.NVML_ERROR_NOT_SUPPORTED:
            return False  # most GPUs cannot be sliced
        raise
    return bool(current)


def _candidates(gpus: list[_Gpu]) -> list[_Gpu]:
    """The GPUs of which torch's first is one; empty where that cannot be told."""
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        return gpus
    entries = [entry.strip() for entry in visible.split(",")]
    if len(set(entries)) < len(entries):
        return []  # CUDA refuses repetitions
    first = entries[0]
    if first.isdecimal():
        return gpus if int(first) < len(gpus) else []
    # CUDA takes any beginning that is unique. A slice of MIG's begins with MIG-.
    named = [one for one in gpus if first.startswith("GPU-") and one.uuid.startswith(first)]
    return named if len(named) == 1 else []


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
