"""The census of a case that was inspected before, without building or importing anything.

To know which engine belongs to a case takes torch, the workload and, for int8, calibration data: seconds and more than
a gigabyte. What all of that depends on can be told from outside: trtgate's own source, the versions of the packages
that make the model, the policy's calibration, and the weights and data in the cache. A census is kept under a digest of
these, and whatever changes one of them makes it anew.

Only for engines that were built ahead of time: where a GPU may be, the engine on it is asked.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trtgate
from trtgate import artefacts
from trtgate.backends import gpu_files, trt_installed
from trtgate.case import BackendName, Case
from trtgate.errors import InspectionError
from trtgate.measure.census import SCHEMA, Census

if TYPE_CHECKING:
    from trtgate.policy import CalibrationSettings

# Everything between the source of a model and its plan.
_PACKAGES: Final = (
    *("torch", "torchvision", "numpy", "mlxtend", "onnx", "onnx-ir", "onnxscript"),
    *("nvidia-modelopt", "onnxruntime", "onnxruntime-gpu", "onnx-graphsurgeon", "onnxslim"),
)
_INPUTS: Final = ("workloads", "datasets")


def recall(case: Case, folder: Path, calibration: CalibrationSettings) -> Census | None:
    """What `keep` kept of a case, if nothing that shapes its engine has changed since.

    Args:
        case: any case.
        folder: the cache.
        calibration: the policy's.
    """
    path = _path(case, folder, calibration)
    if path is None or not artefacts.intact(path):
        return None
    try:
        return Census.load(path)
    except InspectionError:
        return None  # of another release of the same name: it is made anew


def keep(case: Case, folder: Path, calibration: CalibrationSettings, census: Census) -> None:
    """Keep the census of an engine that was built ahead of time; any other is left to be asked again.

    Raises:
        StorageError: the cache cannot be written.
    """
    path = _path(case, folder, calibration)
    if path is not None and census.origin == "build_log":
        census.save(path)


def _path(case: Case, folder: Path, calibration: CalibrationSettings) -> Path | None:
    if case.backend is not BackendName.TENSORRT_ENGINE or gpu_files.gpu_possible() or not _is_ours(case.workload):
        return None
    name = artefacts.key(
        schema=SCHEMA,
        case=case.id,
        calibration=calibration.model_dump(mode="json"),
        source=_source_digest(),
        packages={name: _version(name) for name in _PACKAGES},
        tensorrt=trt_installed.versions(),
        machine=[platform.machine(), platform.python_version()],
        inputs=[_listing(folder / part) for part in _INPUTS],
    )
    return folder / "censuses" / f"{name}.json"


def _is_ours(workload: str) -> bool:
    """Whether trtgate's own source makes the model; a project's workload may read anything."""
    from trtgate.workloads import micro_models, registry

    return workload in registry.OWN or workload in micro_models.known()


@cache
def _source_digest() -> str:
    root = Path(trtgate.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _listing(folder: Path) -> list[list[object]]:
    """Name, size and time of every file: weights and data that are replaced make another model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
