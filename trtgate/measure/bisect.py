"""When parity fails, find where: the first tensor that is wrong although everything it is computed from is right.

The candidate and the reference both yield intermediate tensors by their ONNX names. A tensor is wrong when it holds
NaN or infinity where the reference is finite, or when its relative L2 error exceeds a limit. The search starts at the
outputs and narrows down on their ancestors, probing a few tensors at a time: what is probed is not fused, so fewer
probes leave more of the engine as it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from trtgate.errors import InspectionError
from trtgate.measure.onnx_graph import tensor_datatypes, unique_names

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


_QUANTISING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_LARGEST: Final = {"FLOAT16": 65504.0, "FLOAT8E4M3FN": 448.0, "FLOAT8E5M2": 57344.0}


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first node whose error jumps.

    Attributes:
        node: its name.
        op: its operator.
        output: the tensor that is wrong.
        inputs: the tensors that it is computed from, none of them wrong; initialisers are left out.
        hidden: inputs that the candidate could not show.
    """

    node: str
    op: str
    output: TensorError
    inputs: tuple[TensorError, ...]
    hidden: tuple[str, ...] = ()

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
    graph = _Graph(model)
    search = _Search(graph, candidate, reference)
    search.compare(graph.outputs)
    outputs = tuple(search.seen[name] for name in graph.outputs if name in search.seen)
    if not outputs:
        raise InspectionError(
            "The candidate shows none of the model's outputs.", "Check that it was built from the same ONNX file."
        )
    wrong = [one.tensor for one in outputs if one.wrong(limit)]
    if not wrong:
        return Bisection(None, outputs, search.seen, search.probes)
    # Every ancestor may be the culprit until it is seen; the earliest wrong tensor bounds the search from above.
    first = min(wrong, key=graph.position)
    while True:
        unseen = [name for name in graph.ancestors(first) if name not in search.seen and name not in search.hidden]
        if not unseen:
            break
        search.compare(_spread(unseen, at_once))
        # What is right needs no look at what it was computed from.
        graph.close(name for name, one in search.seen.items() if not one.wrong(limit))
        found = [name for name in graph.ancestors(first) if name in search.seen and search.seen[name].wrong(limit)]
        first = min([*found, first], key=graph.position)
    return Bisection(search.culprit(first), outputs, search.seen, search.probes)


class _Graph:
    """Floating-point tensors of a model that depend on its inputs, and who makes them."""

    def __init__(self, model: Any) -> None:
        graph = model.graph
        types = tensor_datatypes(model)
        weights = {tensor.name for tensor in graph.initializer}
        self.outputs = [value.name for value in graph.output]
        self.inputs = [value.name for value in graph.input if value.name not in weights]
        self.datatype = types
        self._maker: dict[str, int] = {}
        live = set(self.inputs)
        self._nodes = list(graph.node)
        self._names = unique_names(graph)
        for index, node in enumerate(self._nodes):
            if not live.isdisjoint(node.input):
                for name in filter(None, node.output):
                    self._maker[name] = index
                    live.add(name)
        self._live = live
        self._closed: set[str] = set()

    def position(self, tensor: str) -> int:
        return self._maker.get(tensor, -1)

    def node(self, tensor: str) -> tuple[str, str]:
        index = self._maker[tensor]
        return self._names[index], self._nodes[index].op_type

    def parents(self, tensor: str) -> list[str]:
        """What its node reads of the model's data. Quantise/dequantise pairs are looked through.

        A shown dequantised tensor would force the product behind it out of int8 or fp8, and hide the fault.
        """
        index = self._maker.get(tensor)
        if index is None:
            return []
        found: list[str] = []
        for name in dict.fromkeys(self._nodes[index].input):
            made_by = self._maker.get(name)
            if made_by is not None and self._nodes[made_by].op_type in _QUANTISING:
                found.extend(self.parents(name))
            elif name in self._live:
                found.append(name)
        return found

    def ancestors(self, tensor: str) -> list[str]:
        """Floating tensors that it is computed from, in order; not beyond tensors that are closed."""
        found: set[str] = set()
        waiting = self.parents(tensor)
        while waiting:
            name = waiting.pop()
            if name in found or name in self._closed:
                continue
            found.add(name)
            waiting.extend(self.parents(name))
        floating = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
        kept = [n for n in found if n in self._maker and self.datatype.get(n, "FLOAT") in floating]
        return sorted(kept, key=self.position)

    def close(self, right: Iterable[str]) -> None:
        """Look no further up than these."""
        self._closed.update(right)


class _Search:
    """Keeps what has been compared."""

    def __init__(self, graph: _Graph, candidate: Tensors, reference: Tensors) -> None:
        self._graph = graph
        self._candidate = candidate
        self._reference = reference
        self.seen: dict[str, TensorError] = {}
        self.hidden: set[str] = set()
        self.probes = 0

    def compare(self, tensors: Sequence[str]) -> None:
        self.probes += 1
        shown = dict(self._candidate.values(tensors))
        self.hidden.update(name for name in tensors if name not in shown)
        wanted = [name for name in tensors if name in shown]
        for name, expected in self._reference.values(wanted):
            self.seen[name] = tensor_error(name, shown[name], expected, self._graph.datatype.get(name, ""))

    def culprit(self, tensor: str) -> Culprit:
        parents = self._graph.parents(tensor)
        missing = [name for name in parents if name not in self.seen and name not in self.hidden]
        if missing:
            self.compare(missing)
        node, op = self._graph.node(tensor)
        return Culprit(
            node=node,
            op=op,
            output=self.seen[tensor],
            inputs=tuple(self.seen[name] for name in parents if name in self.seen),
            hidden=tuple(name for name in parents if name in self.hidden),
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
    """At most so many of them, evenly spread, the last among them."""
    if len(names) <= count:
        return list(names)
    picks = np.linspace(0, len(names) - 1, count).round().astype(int)
    return [names[index] for index in dict.fromkeys(picks.tolist())]
