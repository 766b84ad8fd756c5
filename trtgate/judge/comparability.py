"""Which parts of machine and stack must agree before two results may be compared."""

from __future__ import annotations

from typing import Final

from trtgate.case import BackendName, Case, Execution, Quantity
from trtgate.record import LESS_EMPTY_PAIR, Identity

_ALWAYS: Final = ("gpu", "architecture", "driver", "cuda", "tensorrt_flavour", "tensorrt", "torch")
_HOST: Final = ("cpu", "threads", "onnxruntime")
# What the host's processor takes part in, even where a GPU computes.
_HOST_BOUND: Final = frozenset({Quantity.LATENCY, Quantity.THROUGHPUT, Quantity.BUILD})
_OF_A_BACKEND: Final = {
    BackendName.TORCH_TENSORRT: ("torch_tensorrt",),
    BackendName.ONNXRUNTIME: ("onnxruntime",),
}
_NAMES: Final = {
    "gpu": "GPU",
    "architecture": "compute capability",
    "driver": "driver",
    "cuda": "CUDA",
    "tensorrt_flavour": "TensorRT flavour",
    "tensorrt": "TensorRT",
    "torch_tensorrt": "Torch-TensorRT",
    "torch": "torch",
    "onnxruntime": "ONNX Runtime",
    "cpu": "CPU",
    "threads": "threads",
    "device_clock": "device clock",
}


def differences(a: Identity, b: Identity, quantity: Quantity, case: Case) -> list[str]:
    """Why two results of a case may not be compared.

    GPU, driver, CUDA, TensorRT's flavour and version and torch always count. CPU, threads and ONNX Runtime count for
    rows that ran on a CPU and for quantities in which the host takes part, and so in the device time of a case that is
    launched call by call; Torch-TensorRT for its own backend; how the device's clock was read for device time.

    Returns:
        One phrase a field that differs, such as ``driver 580.1 and 590.2``; empty when they compare.
    """
    return _differing(a, b, (*_ALWAYS, *_beside(quantity, case, on_cpu=a.gpu is None or b.gpu is None)))


def stack_differences(a: Identity, b: Identity) -> list[str]:
    """What differs that counts for every quantity and case, as `differences` says it; on a CPU that is the CPU too."""
    return _differing(a, b, (*_ALWAYS, *(_HOST if a.gpu is None or b.gpu is None else ())))


def host_of(identity: Identity, quantity: Quantity, case: Case) -> str:
    """What must agree beside GPU, driver and the versions that always count, in words.

    On one stack (`Identity.folder`, which names what always counts) results of a case compare where this text agrees.

    Returns:
        Such as ``CPU AMD EPYC 9554, threads 16, ONNX Runtime 1.32.0``; empty where nothing else matters. Of the
        device's clock only a reading other than today's is told.
    """
    fields = _beside(quantity, case, on_cpu=identity.gpu is None)
    if identity.device_clock == LESS_EMPTY_PAIR:
        fields = tuple(name for name in fields if name != "device_clock")
    return ", ".join(f"{_NAMES[name]} {_say(getattr(identity, name))}" for name in fields)


def _differing(a: Identity, b: Identity, fields: tuple[str, ...]) -> list[str]:
    return [
        f"{_NAMES[name]} {_say(getattr(a, name))} and {_say(getattr(b, name))}"
        for name in fields
        if getattr(a, name) != getattr(b, name)
    ]


def _beside(quantity: Quantity, case: Case, *, on_cpu: bool) -> tuple[str, ...]:
    """The fields that matter beside those that always do."""
    # What is launched call by call shows the host's pace even where the device's clock is read.
    launched = quantity is Quantity.DEVICE and case.execution is Execution.STREAM
    host = _HOST if on_cpu or launched or quantity in _HOST_BOUND else ()
    clock = ("device_clock",) if quantity is Quantity.DEVICE and not on_cpu else ()
    return tuple(dict.fromkeys((*host, *_OF_A_BACKEND.get(case.backend, ()), *clock)))


def _say(value: str | int | None) -> str:
    return "none" if value is None else str(value)
