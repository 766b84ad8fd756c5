"""Finds a backend by name and imports only that backend's file: a missing package costs nobody else anything."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Final

from trtgate.case import BackendName
from trtgate.errors import UnknownValueError

if TYPE_CHECKING:
    from trtgate.backends.base import Backend

_CLASSES: Final = {
    BackendName.EAGER: "EagerBackend",
    BackendName.INDUCTOR: "InductorBackend",
    BackendName.ONNXRUNTIME: "OnnxRuntimeBackend",
    BackendName.TORCH_TENSORRT: "TorchTensorRTBackend",
    BackendName.TENSORRT_ENGINE: "TensorRTEngineBackend",
}


def names() -> tuple[str, ...]:
    """The names of all backends, in the order in which they are reported."""
    return tuple(_CLASSES)


def get(name: BackendName | str) -> Backend:
    """The backend of this name; the same object at every call.

    Raises:
        UnknownValueError: there is no such backend.
    """
    try:
        known = BackendName(name)
    except ValueError:
        raise UnknownValueError("backend", name, names()) from None
    return _made(known)


@functools.cache
def _made(known: BackendName) -> Backend:
    # Each file imports its vendor's package only inside functions, so that this import works everywhere.
    module = importlib.import_module(f"trtgate.backends.{known.value}")
    backend: Backend = getattr(module, _CLASSES[known])()
    return backend
