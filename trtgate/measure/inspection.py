"""Inspection: from a built model to a census of what the optimiser made of it. The public face of this part.

Four sources, one `Census`: the engine inspector (needs a GPU), the builder's verbose log (needs none),
torch-tensorrt's ``get_layer_info()``, and ONNX Runtime's optimised graph (`ort_census`). A census that was read from a
build is kept beside its plan and tied to it by digest, so that a plan can be inspected later without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trtgate import artefacts
from trtgate.backends import gpu_files, plan_cache, plan_header, trt_installed
from trtgate.errors import BackendAbsentError, InspectionError, PlanError, UsageError
from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import Census, Datatype
from trtgate.measure.inspector_json import parse_inspector_json
from trtgate.measure.onnx_graph import read_sources

# Backends that import torch are imported where they are called: reading a log, a JSON or a kept census takes neither
# torch nor TensorRT, and torch alone would take half a gigabyte.
if TYPE_CHECKING:
    from trtgate.backends.base import BuildContext
    from trtgate.backends.tensorrt_engine import Plan
    from trtgate.case import Precision

SUFFIX: Final = ".census.json"
# Layers name nodes of their own graph, but for a few that a parser made up. Another model shares hardly a name.
_LEAST_KNOWN_NODES: Final = 0.5


@dataclass(frozen=True, slots=True)
class HeldPlan:
    """A plan in the cache.

    Attributes:
        path: its file.
        target: what it was built for, as its key says; see `trtgate.backends.plan_target`.
    """

    path: Path
    target: object

    @classmethod
    def of(cls, plan: Plan) -> HeldPlan:
        """A plan that was built or read just now."""
        return cls(plan.path, plan.key["target"])


@dataclass(frozen=True, slots=True)
class Inspected:
    """A census and what else was seen on the way.

    Attributes:
        raw: the engine inspector's own JSON, for other tools and for samples; None where no engine could be asked.
        layer_ms: median milliseconds by layer name, empty where nothing was profiled.
        coverage: torch-tensorrt's ``blocks`` and ``fell_back``; None for other backends.
        left_alone: of a quantised model, the ONNX nodes that a rule of the quantiser's left in high precision, and the
            datatype that this is.
        skipped: of a quantised model, the operators that the quantiser left in high precision, as plain JSON; see
            `trtgate.precision.quantisation_report.QuantisationReport.facts`.
        plan: the TensorRT plan that the census describes and whose digest it has; None where the cache holds none.
        recalled: whether an earlier inspection kept it, and nothing was built or loaded.
    """

    census: Census
    raw: str | None = None
    layer_ms: dict[str, float] = field(default_factory=dict)
    coverage: dict[str, Any] | None = None
    left_alone: dict[str, Datatype] = field(default_factory=dict)
    skipped: tuple[dict[str, Any], ...] = ()
    plan: HeldPlan | None = None
    recalled: bool = False


def census_from_build_log(
    lines: Iterable[str],
    onnx_path: Path | None = None,
    *,
    runtime: str = "",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Census:
    """Census of an engine from the log of its build, without a GPU.

    Args:
        lines: every message that the builder logged, or the lines of a log file.
        onnx_path: what was built; without it no shares of work can be computed.
        runtime: flavour and version of the builder, such as ``tensorrt_rtx 1.6.1.120``.
        input_shapes: shape by input name, where the model's are dynamic.

    Raises:
        InspectionError: the log holds no layers; the message says how to build so that it does.
    """
    return _with_graph(parse_build_log(lines, runtime=runtime), onnx_path, input_shapes)


def census_from_json(
    text: str,
    onnx_path: Path | None = None,
    *,
    torch_tensorrt: bool = False,
    runtime: str = "",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Census:
    """Census from the engine inspector's JSON, or from torch-tensorrt's ``get_layer_info()``.

    Args:
        text: the JSON.
        onnx_path: what was built; without it no shares of work can be computed.
        torch_tensorrt: whether torch-tensorrt told it.
        runtime: flavour and version of the runtime that printed it.
        input_shapes: shape by input name, where the model's are dynamic.

    Raises:
        InspectionError: not the inspector's JSON, or an engine without detailed verbosity.
    """
    found = parse_inspector_json(text, origin="torch_tensorrt" if torch_tensorrt else "inspector", runtime=runtime)
    return _with_graph(found, onnx_path, input_shapes)


def _with_graph(
    found: Census, onnx_path: Path | None, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Census:
    """Put the nodes of an ONNX file beside the layers that were built from it.

    Raises:
        InspectionError: it is no such file, or the layers were built from another one.
    """
    if onnx_path is None:
        return found
    sources = read_sources(onnx_path, input_shapes)
    names = {node.name for node in sources}
    told = list(dict.fromkeys(name for layer in found.layers for name in layer.sources))
    known = [name for name in told if name in names]
    if len(known) < _LEAST_KNOWN_NODES * max(len(told), 1):
        said = f"such as '{told[0]}', and" if told else "and"
        raise InspectionError(
            f"The layers name {len(told)} nodes that they were built from, {said} {onnx_path} has {len(known)} of "
            "them.",
            "Name the ONNX file that the engine was built from, or leave --onnx out.",
        )
    return found.model_copy(update={"sources": sources})


def census_path(plan: Path) -> Path:
    """Where the census of a plan is kept."""
    return plan.with_name(plan.name + SUFFIX)


def read_census(plan: Path) -> Census:
    """The census that was kept beside a plan, if it describes these very bytes.

    Raises:
        InspectionError: there is none, it is damaged, or it belongs to another plan.
        PlanError: the plan itself cannot be read.
    """
    digest = _digest(plan)
    beside = census_path(plan)
    if not beside.is_file():
        raise InspectionError(
            f"No census lies beside {plan}.",
            "Inspect the case that it was built for, or inspect it on a machine with the GPU it was built for.",
        )
    found = Census.load(beside)
    if found.plan_digest != digest:
        raise InspectionError(
            f"The census beside {plan} describes another engine (digest {str(found.plan_digest)[:12]}, "
            f"the plan's is {digest[:12]}).",
            "Delete the census and inspect the case again.",
        )
    return found


def keep_census(plan: Path, found: Census) -> Census:
    """Keep a census beside its plan, tied to its bytes.

    Raises:
        StorageError: the folder cannot be written.
    """
    tied = found.model_copy(update={"plan_digest": _digest(plan)})
    tied.save(census_path(plan))
    return tied


def ensure_census(
    onnx_path: Path, precision: Precision, what: str, context: BuildContext, *, ahead_of_time: bool
) -> tuple[Plan, Census]:
    """The plan of an ONNX file with its census, both from the cache where they agree.

    A cached plan without a census that belongs to it is built once more, since only a build has a log.

    Args:
        onnx_path: the model, with static shapes.
        precision: decides the TF32 flag.
        what: a name for messages.
        context: the cache and the stopwatch.
        ahead_of_time: build without a GPU, which TensorRT-RTX alone can do.

    Raises:
        BackendAbsentError: no TensorRT, or two.
        ParserError, BuildError: it cannot be built.
        InspectionError: the builder's log holds no layers.
        StorageError: the cache cannot be written.
    """
    from trtgate.backends import tensorrt_engine, trt_build

    key = trt_build.build_key(onnx_path, precision, ahead_of_time=ahead_of_time)
    cached = plan_cache.of_plans(context.cache).load(key)
    if cached is not None and census_path(cached.path).is_file():
        try:
            census = read_census(cached.path)
        except InspectionError:
            pass  # damaged, or of another release: a build makes a new one
        else:
            plan = tensorrt_engine.Plan(cached.path, cached.digest, True, cached.details, cached.content, key)
            return plan, census
    lines: list[str] = []
    plan = tensorrt_engine.plan_of(onnx_path, precision, what, context, ahead_of_time=ahead_of_time, verbose_log=lines)
    return plan, keep_census(plan.path, census_from_build_log(lines, onnx_path, runtime=runtime_here()))


def inspect_plan(plan: Path, onnx_path: Path | None = None) -> Census:
    """Census of a plan file: what was kept beside it, else what the engine inspector tells on a GPU.

    Args:
        plan: the file.
        onnx_path: what it was built from; a census that was kept knows that already.

    Raises:
        UsageError: an ONNX file is named for a plan whose census was kept.
        PlanError: not a plan, or of another version.
        BackendAbsentError: no census beside it, and TensorRT or a GPU is missing.
        InspectionError: built without detailed verbosity.
    """
    if census_path(plan).is_file():
        found = read_census(plan)
        refuse_graph(onnx_path, found, census_path(plan))
        return found
    if not gpu_files.gpu_possible():
        # Before torch is imported for what cannot be read anyway.
        plan_header.require_own(plan)
        raise BackendAbsentError(
            f"{plan} cannot be deserialised here: there is no NVIDIA GPU, and no census lies beside it.",
            "Inspect the case instead, which builds ahead of time and reads the builder's log.",
        )
    from trtgate.backends import trt_inspect

    text = trt_inspect.inspector_json_of_file(plan)
    found = census_from_json(text, onnx_path, runtime=runtime_here())
    return found.model_copy(update={"plan_digest": _digest(plan)})


def refuse_graph(onnx_path: Path | None, found: Census, where: Path) -> None:
    """Refuse an ONNX file for a census that holds its graph, rather than ignore it.

    Raises:
        UsageError: there is one.
    """
    if onnx_path is not None and found.sources:
        raise UsageError(
            f"--onnx names {onnx_path}, and the census {where} holds the graph that its engine was built from.",
            "Leave --onnx out.",
        )


def _digest(plan: Path) -> str:
    """Hashed in pieces: a plan is hundreds of megabytes, and its census is read without holding it."""
    try:
        return artefacts.digest(plan)
    except OSError as error:
        raise PlanError(f"The plan {plan} cannot be read ({error.strerror}).", "Name a readable plan file.") from None


def runtime_here() -> str:
    """Flavour and version of the TensorRT that is installed, such as ``tensorrt_rtx 1.6.1.120``; empty without one."""
    flavour, version = trt_installed.versions()
    return f"{flavour} {version}" if flavour else ""
