"""Each of TensorRT's four techniques as a fact of an engine: operator and tensor fusion, precision, graph optimisation.

Nothing is run where running is not needed: without a GPU the engines are built ahead of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trtgate.backends.tensorrt_engine import TensorRTEngineBackend
from trtgate.case import Precision, Quantity
from trtgate.measure import kept_census
from trtgate.measure.optimisation_run import INSPECTED, Proven, micro_case, prove_case, prove_micro
from trtgate.record import Outcome, Series
from trtgate.workloads import micro_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from fixtures.built import Workshop
    from fixtures.recorder import Recorder
    from trtgate.case import Case

_MICRO = [(name, str(precision)) for name in micro_models.names() for precision in micro_models.get(name).precisions]


# Deselected where a workload is named or no engine is built: fixtures/collection.py.
@pytest.mark.cpu
@pytest.mark.parametrize(("model", "precision"), _MICRO)
def test_micro_model(model: str, precision: str, workshop: Workshop, recorder: Recorder) -> None:
    backend = TensorRTEngineBackend()
    answer = backend.availability() if workshop.cuda else backend.ahead_of_time_availability()
    micro, kind = micro_models.get(model), Precision(precision)
    if not answer:
        recorder.skip(micro_case(micro, kind), Quantity.OPTIMISATION, answer.reason)
    settings = recorder.suite.policy.optimisation
    _prove(micro_case(micro, kind), recorder, lambda: prove_micro(micro, kind, workshop.context(), settings))


def test_optimisation(buildable_case: Case, workshop: Workshop, recorder: Recorder) -> None:
    case = buildable_case
    if case.backend not in INSPECTED:
        pytest.skip(f"{case.backend} keeps no list of layers.")
    settings = recorder.suite.policy.optimisation
    runner = None
    # Where the case runs, what was measured is asked; elsewhere its engine is built ahead of time.
    if workshop.can_run(case):
        runner = recorder.built(case, Quantity.OPTIMISATION).runner
    elif workshop.plans_ahead_of_time(case):
        recorder.planned(case, Quantity.OPTIMISATION)
    _prove(
        case,
        recorder,
        lambda: prove_case(workshop.workload(case), case, workshop.context(), settings, runner),
    )


def _prove(case: Case, recorder: Recorder, prove: Callable[[], Proven]) -> None:
    recorder.progress.doing(f"inspecting {case.id}")

    def inspected() -> Proven:
        suite = recorder.suite
        suite.about_to("optimisation", (case,))
        proven = prove()
        # 'trtgate inspect CASE' shows it from here on at once, without torch.
        kept_census.keep(case, suite.selection.cache, suite.policy.calibration, proven.inspected)
        return proven

    proven = recorder.stage(case, Quantity.OPTIMISATION, "optimisation", inspected)
    kernels = Series.of([proven.kernels])
    recorder.keep(
        recorder.suite.record(case, Quantity.OPTIMISATION, Outcome.MEASURED, series=kernels, facts=proven.facts)
    )
