"""Build, inspect, check: the optimisation tests of one case or one micro model, ready to be recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtgate.backends import tensorrt_engine, trt_inspect
from trtgate.backends.cuda_device import cuda_answer
from trtgate.case import BackendName, Case, Execution
from trtgate.errors import OptimisationError, UnsupportedCaseError, UsageError
from trtgate.measure import inspection, micro_run, optimisation
from trtgate.measure.inspect_case import inspect_case
from trtgate.measure.inspection import HeldPlan, Inspected
from trtgate.measure.precision_check import check_layer_precision, check_precision
from trtgate.workloads import micro_models, registry
from trtgate.workloads.micro_models import MicroModel

if TYPE_CHECKING:
    from trtgate.backends.base import BuildContext, Runner
    from trtgate.case import Precision
    from trtgate.policy.optimisation import OptimisationSettings
    from trtgate.workloads.base import Workload

INSPECTED = (BackendName.TENSORRT_ENGINE, BackendName.TORCH_TENSORRT, BackendName.ONNXRUNTIME)
"""Backends whose optimised model can be read."""

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Proven:
    """What a census showed.

    Attributes:
        kernels: how many the model runs in; the number that a history plots.
        facts: plain JSON for a record of the quantity ``optimisation``.
        inspected: the census itself, and the plan that it is of.
    """

    kernels: int
    facts: dict[str, Any]
    inspected: Inspected


def micro_case(model: MicroModel, precision: Precision) -> Case:
    """The case under which a micro model's facts are kept."""
    return Case(model.name, BackendName.TENSORRT_ENGINE, precision, 1, None, Execution.STREAM)


def micro_of(case: Case) -> MicroModel | None:
    """The micro model that a case id names, None where it names a workload.

    Raises:
        UsageError: the id gives a micro model a shape, which is part of the model.
    """
    # A project's own workload of the same name comes first: a person wrote it for its cases.
    if case.workload in registry.names() or case.workload not in micro_models.known():
        return None
    model = micro_models.get(case.workload)
    if case.shape != "b1":
        raise UsageError(
            f"The micro model '{model.name}' has a fixed shape, and {case.id} asks for {case.shape}.",
            f"Name it {micro_case(model, case.precision).id}.",
        )
    return model


def inspect_micro(model: MicroModel, case: Case, context: BuildContext) -> Inspected:
    """Build a micro model, for the GPU here or ahead of time, and ask it.

    Raises:
        UnsupportedCaseError: the case is not on tensorrt_engine, or the model has no such precision.
        BackendAbsentError, BuildError, InspectionError: it cannot be built or read.
    """
    if case.backend is not BackendName.TENSORRT_ENGINE:
        raise UnsupportedCaseError(
            f"The micro model '{model.name}' is made for TensorRT's optimiser, and {case.id} is on {case.backend}.",
            f"Inspect {micro_case(model, case.precision).id}.",
        )
    onnx_path = model.write(context.cache / "onnx", case.precision)
    if not cuda_answer():
        built, census = inspection.ensure_census(onnx_path, case.precision, case.id, context, ahead_of_time=True)
        return Inspected(census, plan=HeldPlan.of(built))
    plan = tensorrt_engine.plan_of(onnx_path, case.precision, case.id, context, ahead_of_time=False)
    text = trt_inspect.inspector_json(plan.content, case.id)
    found = inspection.census_from_json(text, onnx_path, runtime=inspection.runtime_here())
    return Inspected(found.model_copy(update={"plan_digest": plan.digest}), text, plan=HeldPlan.of(plan))


def prove_micro(
    model: MicroModel, precision: Precision, context: BuildContext, settings: OptimisationSettings
) -> Proven:
    """Build a micro model, for the GPU here or ahead of time, and hold it to its claims.

    A quantised one is also run where something runs it, and compared with itself as written (`micro_run`).

    Raises:
        OptimisationError: a claim does not hold; names what breaks it, by layer.
        BackendAbsentError, BuildError, InspectionError: it cannot be built or read.
    """
    case = micro_case(model, precision)
    inspected = inspect_micro(model, case, context)
    found = optimisation.check_micro(inspected.census, model, precision, settings, case.id)
    executed = micro_run.execute(
        model.write(context.cache / "onnx", precision), case, context, settings.quantised_error
    )
    if executed is None:
        return _held(inspected, found, case)
    found.violations += executed.violations()
    return _held(inspected, found, case, executed=executed.to_json())


def prove_case(
    workload: Workload,
    case: Case,
    context: BuildContext,
    settings: OptimisationSettings,
    runner: Runner | None = None,
) -> Proven:
    """Inspect what a case runs and hold it to the policy.

    ONNX Runtime's graph is recorded and not judged, since what the CPU's provider fuses is not this project's claim;
    but a quantised row's work has to run in its datatype there too. A ``runner`` that is passed in is asked instead of
    a new one, and stays open.

    Raises:
        OptimisationError: a claim does not hold; names what breaks it, by layer.
        TrtgateError: the case cannot be built or inspected.
    """
    inspected = inspect_case(workload, case, context, runner=runner)
    found = optimisation.Findings()
    if case.backend is BackendName.TENSORRT_ENGINE:
        found = optimisation.check_case(inspected.census, case, settings, inspected.left_alone)
    if case.backend is BackendName.ONNXRUNTIME and case.precision.quantised:
        found.violations += check_precision(inspected.census, case.precision, settings, case.id, inspected.left_alone)
    if case.backend is BackendName.TORCH_TENSORRT:
        found.violations += check_layer_precision(inspected.census, case.precision, settings, case.id)
    if inspected.coverage is not None:
        found.violations += optimisation.check_coverage(inspected.coverage)
    covered = {} if inspected.coverage is None else {"coverage": inspected.coverage}
    return _held(inspected, found, case, **covered)


def _held(inspected: Inspected, found: optimisation.Findings, case: Case, **further: Any) -> Proven:
    facts = {**found.facts(inspected.census), **further}
    if found.violations:
        sentences = [f"{one.check}: {one.message}" for one in found.violations[:_NAMED]]
        more = f" And {len(found.violations) - _NAMED} more." if len(found.violations) > _NAMED else ""
        raise OptimisationError(
            f"{case.id}: {' '.join(sentences)}{more}",
            "See the layers with 'trtgate inspect --layers', or explain them in [optimisation] of trtgate.toml.",
            facts,
        )
    return Proven(inspected.census.kernels, facts, inspected)
