"""What this machine has and lacks, and what to install for what is missing."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trtgate.case import BackendName, Case, Precision
from trtgate.errors import BackendAbsentError, UnknownValueError

_PROBE_WORKLOAD = "resnet18"
_PACKAGES = {
    "modelopt": (("nvidia-modelopt",), "int8 and fp8 rows: pip install 'trtgate[quantize]'"),
    "duckdb": (("duckdb",), "'trtgate trend' and Parquet stores: pip install 'trtgate[history]'"),
    "pyarrow": (("pyarrow",), "'trtgate trend' and Parquet stores: pip install 'trtgate[history]'"),
    "ruptures": (("ruptures",), "change points: pip install 'trtgate[history]'"),
    "psycopg": (("psycopg",), "histories in PostgreSQL: pip install 'trtgate[postgres]'"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is here or not.

    Attributes:
        name: what was looked for; backends are ``backend <name>``.
        here: whether it can be used.
        detail: version, place or size; or why it cannot be used.
        fix: what to do where it cannot be used; empty where nothing needs doing.
    """

    name: str
    here: bool
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)


def examine(results: Path, cache: Path = Path(".trtgate")) -> list[Finding]:
    """Look at everything that a run could need. Measures nothing and changes nothing.

    Args:
        results: folder of the histories, which need not exist yet.
        cache: folder of weights, exports and plans, which need not exist yet.
    """
    return [
        Finding("python", True, f"{platform.python_version()} at {sys.executable}"),
        *_gpu(),
        *_tensorrt(),
        *_backends(),
        *_packages(),
        _cache(cache),
        _writable("results", results),
    ]


def require(findings: Iterable[Finding], backends: Sequence[str]) -> None:
    """Insist on backends.

    Raises:
        UnknownValueError: there is no backend of that name.
        BackendAbsentError: it cannot run here.
    """
    known = {
        finding.name.removeprefix("backend "): finding for finding in findings if finding.name.startswith("backend ")
    }
    for name in backends:
        if name not in known:
            raise UnknownValueError("backend", name, known)
        if not known[name].here:
            raise BackendAbsentError(f"The backend '{name}' cannot run here: {known[name].detail}", known[name].fix)


def _gpu() -> Iterator[Finding]:
    import torch

    from trtgate.measure.device import cuda_problem, identity

    here = identity()
    yield Finding("torch", True, f"{torch.__version__}, built for CUDA {torch.version.cuda or 'none'}")
    problem = cuda_problem()
    fix = "Rows that need a GPU are skipped; the CPU rows run." if problem else ""
    yield Finding("gpu", problem is None, problem or f"{here.gpu}, {here.architecture}, driver {here.driver}", fix)
    yield Finding("cpu", True, f"{here.cpu}, {here.threads} threads")


def _tensorrt() -> Iterator[Finding]:
    from trtgate.backends import trt_runtime

    found = trt_runtime.installed()
    usable = trt_runtime.answer()
    named = ", ".join(f"{one.flavour} {one.version}" for one in found)
    yield Finding(
        "tensorrt",
        bool(usable),
        named if usable else usable.reason,
        "" if usable else "Install one flavour: pip install 'trtgate[rtx]' or 'trtgate[tensorrt]', never both.",
    )


def _backends() -> Iterator[Finding]:
    from trtgate.backends import registry

    for name in registry.names():
        backend = registry.get(name)
        answer = backend.availability()
        if not answer:
            yield Finding(f"backend {name}", False, answer.reason, "See the lines above for what is missing.")
            continue
        cases = {precision: Case(_PROBE_WORKLOAD, BackendName(name), precision, 1) for precision in Precision}
        able = [str(precision) for precision, case in cases.items() if backend.supports(case)]
        yield Finding(f"backend {name}", True, f"precisions: {', '.join(able) or 'none'}")


def _packages() -> Iterator[Finding]:
    for name, (distributions, purpose) in _PACKAGES.items():
        versions = [version for version in map(_version, distributions) if version]
        yield Finding(name, bool(versions), versions[0] if versions else "not installed", "" if versions else purpose)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cache(cache: Path) -> Finding:
    finding = _writable("cache", cache)
    if not finding.here or not cache.is_dir():
        return finding
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return dataclasses.replace(finding, detail=f"{finding.detail}, {size / 2**20:,.0f} MiB used")


def _writable(name: str, folder: Path) -> Finding:
    """Whether a folder, or the nearest one above that exists, takes a file."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return Finding(
            name, False, f"{folder} cannot be written: {error.strerror}", "Free space or change permissions."
        )
    return Finding(name, True, str(folder) if nearest == folder.absolute() else f"{folder} (will be created)")
