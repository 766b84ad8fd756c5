"""The census of a case that was inspected before, without building or importing anything.

To know which engine belongs to a case takes torch, the workload and, for int8, calibration data: seconds and more than
a gigabyte. What all of that depends on can be told from outside: trtgate's own source, the versions of the packages
that make the model, the policy's calibration, the weights and data in the cache, and what the engine is for: the GPU as
NVML names it, with its driver, or no GPU. A census is kept under a digest of these, and whatever changes one of them
makes it anew. So does another plan: the same source, built again on a GPU, may choose other layers.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

import trtgate
from trtgate import artefacts
from trtgate.backends import plan_cache, plan_target, trt_installed
from trtgate.case import BackendName, Case, Execution
from trtgate.measure.census import SCHEMA, Census
from trtgate.measure.inspection import Inspected

if TYPE_CHECKING:
    from trtgate.policy import CalibrationSettings

# Everything between the source of a model and its plan.
_PACKAGES: Final = (
    *("torch", "torchvision", "numpy", "mlxtend", "onnx", "onnx-ir", "onnxscript"),
    *("nvidia-modelopt", "onnxruntime", "onnxruntime-gpu", "onnx-graphsurgeon", "onnxslim", "ml-dtypes", "polygraphy"),
)


class _Kept(BaseModel):
    """What lies on disk: a census, the name of the plan that it describes, and what a quantiser skipped."""

    model_config = ConfigDict(extra="forbid")

    plan: str
    skipped: tuple[dict[str, Any], ...]
    census: Census


def recall(case: Case, folder: Path, calibration: CalibrationSettings) -> Inspected | None:
    """What `keep` kept of a case, if its plan is still in the cache and nothing that shapes it has changed since.

    Args:
        case: any case.
        folder: the cache.
        calibration: the policy's.
    """
    path = _path(case, folder, calibration, plan_target.here())
    if path is None or not artefacts.intact(path):
        return None
    try:
        kept = _Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None  # of another release of the same name: it is made anew
    if not plan_cache.of_plans(folder).holds(kept.plan, str(kept.census.plan_digest)):
        return None
    return Inspected(kept.census, skipped=kept.skipped, recalled=True)


def keep(case: Case, folder: Path, calibration: CalibrationSettings, inspected: Inspected) -> None:
    """Keep the census of a plan that lies in the cache, if what it is for can be told without torch.

    Raises:
        StorageError: the cache cannot be written.
    """
    plan, target = inspected.plan, plan_target.here()
    # Torch has the last word on what the plan is for: where NVML names another GPU, nothing would be recalled rightly.
    if plan is None or plan.target != target:
        return
    path = _path(case, folder, calibration, target)
    if path is None:
        return
    kept = _Kept(plan=plan.path.name, skipped=inspected.skipped, census=inspected.census)
    artefacts.write(path, lambda made: _write(made, kept.model_dump_json(exclude_defaults=True)))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _path(case: Case, folder: Path, calibration: CalibrationSettings, target: dict[str, object] | None) -> Path | None:
    if case.backend is not BackendName.TENSORRT_ENGINE or target is None or not _is_ours(case.workload):
        return None
    name = artefacts.key(
        schema=SCHEMA,
        # A captured graph replays the layers of the same engine.
        case=case.built_by(case.backend, Execution.STREAM).id,
        calibration=calibration.model_dump(mode="json"),
        source=_source_digest(),
        packages={name: _version(name) for name in _PACKAGES},
        tensorrt=trt_installed.versions(),
        target=target,
        flags=plan_target.flags(case.precision),
        machine=[platform.machine(), platform.python_version()],
        inputs=[_listing(folder / "workloads" / case.workload), _listing(folder / "datasets")],
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
    """Name, size and time of every file, and the digest beside it: what is replaced makes another model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        [str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns, _noted(path)] for path in files
    ]


def _noted(path: Path) -> str:
    """What `trtgate.artefacts` wrote of a file: a copy that keeps size and time has another."""
    return path.read_text(encoding="utf-8", errors="replace") if path.suffix == ".sha256" else ""
