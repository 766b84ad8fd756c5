"""When parity fails, find where: the first tensor that is wrong although everything it is computed from is right.

The candidate and the reference both yield intermediate tensors by their ONNX names. A tensor is wrong when it holds
NaN or infinity where the reference is finite, or when its relative L2 error exceeds a limit. The search starts at the
outputs and narrows down on their ancestors, probing a few tensors at a time: what is probed is not fused, so fewer
probes leave more of the engine as it runs. Each probe also shows again what is known to be wrong. Where that is right
all of a sudden, showing took the fault away with a fusion: the probe says nothing of the engine that is wrong, and is
repeated with half as many tensors. What takes the fault away even when it is shown alone is part of that fusion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from trtgate.errors import InspectionError
from trtgate.measure.ancestry import Ancestry

Array = npt.NDArray[Any]


class Tensors(Protocol):
    """Something that computes a model and shows tensors of it."""

    def values(self, tensors: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """Yield the named tensors in that order; those that it cannot show are left out."""


@dataclass(frozen=True, slots=True)
class TensorError:
    """How far a tensor of the candidate is from the reference's.

    Attributes:
        relative_l2: norm of the difference over the norm of the reference, over elements that are finite in both.
        non_finite: elements that are NaN or infinite in the candidate alone.
        low: least value of the reference.
        high: greatest value of the reference.
        datatype: of the tensor in the model, as ONNX names it.
    """

    tensor: str
    relative_l2: float
    non_finite: int
    low: float
    high: float
    datatype: str

    def wrong(self, limit: float) -> bool:
        """Whether it is beyond what rounding explains."""
        return self.non_finite > 0 or not self.relative_l2 <= limit

    @property
    def overflows(self) -> bool:
        """Whether the reference's values do not fit the tensor's datatype."""
        largest = _LARGEST.get(self.datatype)
        return largest is not None and max(abs(self.low), abs(self.high)) > largest


_MASKING_TRIED: Final = 8  # each is a build of the engine
_LARGEST: Final = {"FLOAT16": 65504.0, "FLOAT8E4M3FN": 448.0, "FLOAT8E5M2": 57344.0}


@dataclass(frozen=True, slots=True)
class Masking:
    """A tensor that takes the fault away when it is shown.

    Attributes:
        node: what makes it.
        op: its operator.
        tensor: how far it is from the reference where it is shown: right.
    """

    node: str
    op: str
    tensor: TensorError


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first node whose error jumps.

    Attributes:
        node: its name.
        op: its operator.
        output: the tensor that is wrong.
        inputs: the tensors that it is computed from, none of them wrong; initialisers are left out.
        hidden: inputs that the candidate could not show.
        masking: tensors that the output is computed from, each of which takes the fault away when it is shown alone;
            the fault is then in how they are fused, and the node is the first whose output shows it. At most
            eight are tried besides what the node itself reads.
    """

    node: str
    op: str
    output: TensorError
    inputs: tuple[TensorError, ...]
    hidden: tuple[str, ...] = ()
    masking: tuple[Masking, ...] = ()

    @property
    def growth(self) -> float:
        """Error of the output over the largest error of the inputs; infinite without the latter or with NaN."""
        if self.output.non_finite:
            return math.inf
        before = max((one.relative_l2 for one in self.inputs), default=0.0)
        return self.output.relative_l2 / before if before > 0 else math.inf


@dataclass(slots=True)
class Bisection:
    """What a search found.

    Attributes:
        culprit: None where no tensor is wrong.
        outputs: errors of the model's outputs.
        seen: errors of all tensors that were compared.
        probes: how many times the candidate was run with other tensors shown.
    """

    culprit: Culprit | None
    outputs: tuple[TensorError, ...]
    seen: dict[str, TensorError] = field(default_factory=dict)
    probes: int = 0


def bisect(model: Any, candidate: Tensors, reference: Tensors, *, limit: float, at_once: int = 16) -> Bisection:
    """Find the first node whose output is wrong although its inputs are right.

    Args:
        model: the onnx.ModelProto that the candidate was built from; weights are not needed.
        candidate: what is suspected.
        reference: the same graph, computed in a wider type.
        limit: relative L2 error that rounding explains.
        at_once: tensors that are shown in one run of the candidate, besides the model's outputs.

    Raises:
        InspectionError: the candidate shows none of the model's outputs.
    """
    graph = Ancestry(model)
    search = _Search(graph, candidate, reference)
    search.seen.update(search.compare(graph.outputs))
    outputs = tuple(search.seen[name] for name in graph.outputs if name in search.seen)
    if not outputs:
        raise InspectionError(
            "The candidate shows none of the model's outputs.", "Check that it was built from the same ONNX file."
        )
    wrong = [one.tensor for one in outputs if one.wrong(limit)]
    if not wrong:
        return Bisection(None, outputs, search.seen, search.probes)
    # Every ancestor may be the culprit until it is seen; the earliest wrong tensor bounds the search from above.
    first, count = min(wrong, key=graph.position), at_once
    while len(search.masking) < _MASKING_TRIED:
        unseen = [name for name in graph.ancestors(first) if not search.knows(name)]
        if not unseen:
            break
        picked = _spread(unseen, count)
        if search.probe(picked, first, limit):
            # What is right needs no look at what it was computed from.
            graph.close(name for name, one in search.seen.items() if not one.wrong(limit))
            found = [name for name in graph.ancestors(first) if name in search.seen and search.seen[name].wrong(limit)]
            first = min([*found, first], key=graph.position)
        else:
            count = max(1, len(picked) // 2)
    return Bisection(search.culprit(first, limit), outputs, search.seen, search.probes)


class _Search:
    """Keeps what has been compared, and what cannot be shown without taking the fault away."""

    def __init__(self, graph: Ancestry, candidate: Tensors, reference: Tensors) -> None:
        self._graph = graph
        self._candidate = candidate
        self._reference = reference
        self.seen: dict[str, TensorError] = {}
        self.hidden: set[str] = set()
        self.masking: dict[str, TensorError] = {}
        self.probes = 0

    def knows(self, tensor: str) -> bool:
        """Whether there is nothing to be learnt from showing it."""
        return tensor in self.seen or tensor in self.hidden or tensor in self.masking

    def compare(self, tensors: Sequence[str]) -> dict[str, TensorError]:
        """Errors of the tensors in a candidate that shows them, without those that it cannot show."""
        self.probes += 1
        shown = dict(self._candidate.values(tensors))
        self.hidden.update(name for name in tensors if name not in shown)
        wanted = [name for name in tensors if name in shown]
        return {
            name: tensor_error(name, shown[name], expected, self._graph.datatype.get(name, ""))
            for name, expected in self._reference.values(wanted)
        }

    def probe(self, tensors: Sequence[str], wrong: str, limit: float) -> bool:
        """Compare tensors in one run; whether the fault was there.

        Args:
            tensors: what nothing is known of yet.
            wrong: what was wrong in an earlier run, and is shown again.
            limit: relative L2 error that rounding explains.
        """
        errors = self.compare([*tensors, wrong])
        again = errors.pop(wrong, None)
        if again is None:
            self.hidden.discard(wrong)  # it was shown before, and its error is known
        if again is None or again.wrong(limit) or any(one.wrong(limit) for one in errors.values()):
            self.seen.update(errors)
            return True
        if len(errors) == 1:
            self.masking.update(errors)
        return False

    def culprit(self, tensor: str, limit: float) -> Culprit:
        parents = self._graph.parents(tensor)
        for name in parents:
            if name in self._graph.inputs:
                self.seen.update(self.compare([name]))  # of the caller, so that no engine is needed to show it
            elif not self.knows(name):
                # One at a time: several may take the fault away together, and then none of them is known.
                self.probe([name], tensor, limit)
        node, op = self._graph.node(tensor)
        fused = [name for name in self._graph.ancestors(tensor) if name in self.masking]
        return Culprit(
            node=node,
            op=op,
            output=self.seen[tensor],
            inputs=tuple(self.seen[name] for name in parents if name in self.seen),
            hidden=tuple(name for name in parents if name in self.hidden),
            masking=tuple(Masking(*self._graph.node(name), self.masking[name]) for name in fused),
        )


def tensor_error(name: str, candidate: Array, reference: Array, datatype: str = "") -> TensorError:
    """Compare two tensors of equal shape.

    Raises:
        InspectionError: their shapes differ.
    """
    if candidate.shape != reference.shape:
        raise InspectionError(
            f"'{name}' has the shape {candidate.shape} in the candidate and {reference.shape} in the reference.",
            "Check that both were built from the same ONNX file.",
        )
    got, want = candidate.astype(np.float64), reference.astype(np.float64)
    usable = np.isfinite(want)
    broken = usable & ~np.isfinite(got)
    both = usable & ~broken
    scale = float(np.linalg.norm(want[both]))
    distance = float(np.linalg.norm(got[both] - want[both]))
    return TensorError(
        tensor=name,
        relative_l2=distance / scale if scale > 0 else (0.0 if distance == 0 else math.inf),
        non_finite=int(np.count_nonzero(broken)),
        low=float(want[usable].min()) if usable.any() else math.nan,
        high=float(want[usable].max()) if usable.any() else math.nan,
        datatype=datatype,
    )


def _spread(names: Sequence[str], count: int) -> list[str]:
    """At most so many of them, evenly spread, the last among them; of one, that in the middle."""
    if len(names) <= count:
        return list(names)
    if count == 1:
        return [names[len(names) // 2]]
    picks = np.linspace(0, len(names) - 1, count).round().astype(int)
    return [names[index] for index in dict.fromkeys(picks.tolist())]
