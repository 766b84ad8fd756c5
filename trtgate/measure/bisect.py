"""When parity fails, find where: the first tensor that is wrong although everything it is computed from is right.

The candidate and the reference both yield intermediate tensors by their ONNX names. A tensor is wrong when it holds
NaN or infinity where the reference is finite, or when its relative L2 error exceeds a limit. The search starts at the
outputs and narrows down on their ancestors, probing a few tensors at a time: what is probed is not fused, so fewer
probes leave more of the engine as it runs (`trtgate.measure.bisect_search`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trtgate.errors import InspectionError
from trtgate.measure.ancestry import Ancestry
from trtgate.measure.bisect_search import Culprit, OutOfRunsError, Search, UnstableError
from trtgate.measure.bisect_watch import Doing, Watch, unwatched
from trtgate.measure.tensor_error import TensorError, Tensors


@dataclass(slots=True)
class Bisection:
    """What a search found.

    Attributes:
        culprit: None where no tensor is wrong, or the fault is not stable.
        outputs: errors of the model's outputs.
        seen: errors of all tensors that were compared.
        probes: how many times the candidate was run.
        unstable: a tensor that was wrong in one run and right in the next that showed it alone; empty where none was.
        stopped_at: the wrong tensor nearest to the inputs, where the search needed more runs than it was allowed; else
            None.
    """

    culprit: Culprit | None
    outputs: tuple[TensorError, ...]
    seen: dict[str, TensorError] = field(default_factory=dict)
    probes: int = 0
    unstable: str = ""
    stopped_at: TensorError | None = None


def bisect(
    model: Any,
    candidate: Tensors,
    reference: Tensors,
    *,
    limit: float,
    at_once: int = 16,
    watch: Watch = unwatched,
    max_runs: int | None = None,
) -> Bisection:
    """Find the first node whose output is wrong although its inputs are right.

    Args:
        model: the onnx.ModelProto that the candidate was built from; weights are not needed.
        candidate: what is suspected.
        reference: the same graph, computed in a wider type.
        limit: relative L2 error that rounding explains.
        at_once: tensors that are shown in one run of the candidate, besides the model's outputs.
        watch: is told of each run of the candidate before it starts, and entered while it lasts.
        max_runs: end without an answer rather than run the candidate more often, at least 1; any number without it.

    Raises:
        InspectionError: the candidate shows none of the model's outputs.
    """
    graph = Ancestry(model)
    search = Search(graph, candidate, reference, limit, watch, max_runs)
    found = search.compare(graph.outputs, Doing.LOOKING)
    outputs = tuple(found.values())
    if not outputs:
        raise InspectionError(
            "The candidate shows none of the model's outputs.", "Check that it was built from the same ONNX file."
        )
    wrong = [one.tensor for one in outputs if one.wrong(limit)]
    culprit, unstable, stopped_at = None, "", None
    if wrong:
        try:
            culprit = search.culprit(min(wrong, key=graph.position), at_once)
        except UnstableError as error:
            (unstable,) = error.args
        except OutOfRunsError:
            stopped_at = search.earliest_wrong()
    return Bisection(culprit, outputs, search.seen, search.probes, unstable, stopped_at)
