"""The census of a case: build it the way it would be measured, or ahead of time without a GPU, and ask it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from trtgate.backends import onnx_export, plan_cache, registry, tensorrt_engine, trt_build
from trtgate.backends.cuda_device import cuda_answer
from trtgate.case import BackendName, Case, Execution, Precision
from trtgate.errors import BackendAbsentError, UnsupportedCaseError
from trtgate.measure import inspection
from trtgate.measure.census import Census, Datatype
from trtgate.measure.inspection import HeldPlan, Inspected
from trtgate.measure.ort_census import census_from_onnxruntime
from trtgate.precision import quantise_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from trtgate.backends.base import BuildContext, Runner
    from trtgate.workloads.base import Workload


def inspect_case(
    workload: Workload,
    case: Case,
    context: BuildContext,
    *,
    profile_repeats: int = 0,
    runner: Runner | None = None,
) -> Inspected:
    """Inspect what a case runs.

    Args:
        workload: of the case.
        case: on tensorrt_engine, torch_tensorrt or onnxruntime.
        context: where to build.
        profile_repeats: inferences to profile layer by layer, on a GPU; 0 for none.
        runner: the case as it was built already; it stays open. Without one it is built here, and closed.

    Raises:
        UnsupportedCaseError: eager and inductor have no layers to inspect, or the backend's cannot be profiled.
        BackendAbsentError: the backend cannot build here, or profiling is asked for without a GPU.
        InspectionError: what was built does not tell enough.
    """
    # A captured graph replays the same layers, but a profiler sees nothing of them.
    plain = case.built_by(case.backend, Execution.STREAM)
    if profile_repeats and case.backend is not BackendName.TENSORRT_ENGINE:
        raise UnsupportedCaseError(
            f"The layers of {case.id} cannot be profiled: {case.backend} has no profiler of layers.",
            "Profile a tensorrt_engine case, or leave --profile out.",
        )
    if profile_repeats and not cuda_answer():
        raise BackendAbsentError(
            f"The layers of {case.id} cannot be profiled here: {cuda_answer().reason}",
            "Profile it on a machine with a GPU, or leave --profile out.",
        )
    if case.backend is BackendName.ONNXRUNTIME:
        return _onnxruntime(workload, plain, context, runner)
    if case.backend is BackendName.TORCH_TENSORRT:
        return _torch_tensorrt(workload, plain, context, runner)
    if case.backend is not BackendName.TENSORRT_ENGINE:
        raise UnsupportedCaseError(
            f"{case.id} has no engine: {case.backend} keeps no list of layers.",
            "Inspect a case on tensorrt_engine, torch_tensorrt or onnxruntime.",
        )
    if not cuda_answer():
        return _ahead_of_time(workload, plain, context)
    with _built(workload, plain, context, runner) as built:
        raw = built.inspector_json()
        layer_ms = built.layer_times_ms(profile_repeats) if profile_repeats else {}
        digest = str(built.facts.details["plan"]["digest"])
    onnx_path = tensorrt_engine.parsed_onnx(workload, plain, context, ahead_of_time=False)
    census = inspection.census_from_json(raw, onnx_path, runtime=inspection.runtime_here())
    key = trt_build.build_key(onnx_path, case.precision, ahead_of_time=False)
    plan = HeldPlan(plan_cache.of_plans(context.cache).content_path(key, digest), key["target"])
    tied = census.model_copy(update={"plan_digest": digest})
    return Inspected(tied, raw, layer_ms, plan=plan, **_of_quantiser(onnx_path, case.precision))


def _ahead_of_time(workload: Workload, case: Case, context: BuildContext) -> Inspected:
    answer = registry.get(BackendName.TENSORRT_ENGINE).ahead_of_time_availability()  # type: ignore[attr-defined]
    if not answer:
        raise BackendAbsentError(
            f"{case.id} cannot be inspected here: {answer.reason}", "Run 'trtgate doctor' to see what is missing."
        )
    onnx_path = tensorrt_engine.parsed_onnx(workload, case, context, ahead_of_time=True)
    plan, census = inspection.ensure_census(onnx_path, case.precision, case.id, context, ahead_of_time=True)
    return Inspected(census, plan=HeldPlan.of(plan), **_of_quantiser(onnx_path, case.precision))


def _of_quantiser(onnx_path: Path, precision: Precision) -> dict[str, Any]:
    """`left_alone` and `skipped` of `Inspected`; neither for a model that is not quantised."""
    if not precision.quantised:
        return {}
    report = quantise_onnx.report_of(onnx_path)
    left_alone = dict.fromkeys(report.skipped_by_rule, Datatype(report.high_precision))
    return {"left_alone": left_alone, "skipped": tuple(report.facts()["skipped"])}


def _onnxruntime(workload: Workload, case: Case, context: BuildContext, runner: Runner | None) -> Inspected:
    import onnxruntime

    with _built(workload, case, context, runner) as built:
        optimised = context.cache / "onnxruntime" / str(built.facts.details["optimised_model"])
    onnx_path = onnx_export.export(workload, case, context.cache, context.stopwatch, context.calibration)
    census = census_from_onnxruntime(optimised, onnx_path, runtime=f"onnxruntime {onnxruntime.__version__}")
    return Inspected(census, **_of_quantiser(onnx_path, case.precision))


def _torch_tensorrt(workload: Workload, case: Case, context: BuildContext, runner: Runner | None) -> Inspected:
    with _built(workload, case, context, runner) as built:
        texts = built.inspector_json()
        details = dict(built.facts.details)
    # Engines of one module run one after another: their layers make one list.
    parts = [inspection.census_from_json(text, torch_tensorrt=True) for text in texts]
    merged = Census(
        origin="torch_tensorrt",
        runtime=inspection.runtime_here(),
        layers=tuple(layer for part in parts for layer in part.layers),
    )
    raw = "[" + ",\n".join(texts) + "]"
    return Inspected(merged, raw, coverage=coverage_of(details), skipped=tuple(details.get("skipped", ())))


def coverage_of(details: dict[str, Any]) -> dict[str, Any]:
    """What torch-tensorrt took over, in the form that `optimisation.check_coverage` reads.

    Args:
        details: a torch_tensorrt runner's ``facts.details``.
    """
    fell_back = details["pytorch_operators"]
    return {"blocks": int(details["tensorrt_blocks"]), "fell_back": sorted(fell_back)}


def _built(
    workload: Workload, case: Case, context: BuildContext, runner: Runner | None
) -> contextlib.AbstractContextManager[Any]:
    # Any: inspector_json and layer_times_ms belong to two of the runners, not to the contract.
    if runner is not None:
        return contextlib.nullcontext(runner)
    return registry.get(case.backend).build(workload, case, context)
