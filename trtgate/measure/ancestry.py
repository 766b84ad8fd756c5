"""Which tensors of an ONNX graph a tensor is computed from: what a search for the first wrong one walks along."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from trtgate.measure.onnx_graph import tensor_datatypes, unique_names

_QUANTISING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_FLOATING: Final = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


class Ancestry:
    """Floating-point tensors of a model that depend on its inputs, and who makes them.

    Args:
        model: an onnx.ModelProto; its weights are not needed.
    """

    def __init__(self, model: Any) -> None:
        graph = model.graph
        types = tensor_datatypes(model)
        weights = {tensor.name for tensor in graph.initializer}
        self.outputs = [value.name for value in graph.output]
        self.inputs = [value.name for value in graph.input if value.name not in weights]
        self.datatype = types
        self._maker: dict[str, int] = {}
        self._nodes = list(graph.node)
        self._names = unique_names(graph)
        self._reads = [_reads(node) for node in self._nodes]
        live = set(self.inputs)
        for index, node in enumerate(self._nodes):
            made = list(filter(None, node.output))
            self._maker |= dict.fromkeys(made, index)
            if not live.isdisjoint(self._reads[index]):
                live.update(made)
        self._live = live
        self._closed: set[str] = set()

    def position(self, tensor: str) -> int:
        """Place of the node that makes it in the graph's order; -1 for the model's inputs."""
        return self._maker.get(tensor, -1)

    def node(self, tensor: str) -> tuple[str, str]:
        """Name and operator of the node that makes it; its own name where it is an input or a weight of the model."""
        index = self._maker.get(tensor)
        if index is None:
            return tensor, "input"
        return self._names[index], self._nodes[index].op_type

    def parents(self, tensor: str) -> list[str]:
        """What its node reads of the model's data. Quantise/dequantise pairs are looked through.

        A shown dequantised tensor would force the product behind it out of int8 or fp8, and hide the fault.
        """
        index = self._maker.get(tensor)
        if index is None:
            return []
        found: list[str] = []
        for name in self._reads[index]:
            made_by = self._maker.get(name)
            if made_by is not None and self._nodes[made_by].op_type in _QUANTISING:
                found.extend(self.parents(name))
            elif name in self._live:
                found.append(name)
        return list(dict.fromkeys(found))

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
        kept = [n for n in found if n in self._maker and self.datatype.get(n, "FLOAT") in _FLOATING]
        return sorted(kept, key=self.position)

    def close(self, right: Iterable[str]) -> None:
        """Look no further up than these."""
        self._closed.update(right)

    def reopen(self) -> None:
        """Forget what was closed."""
        self._closed.clear()


def _reads(node: Any) -> list[str]:
    """What a node reads, and what the graphs in its attributes (If, Loop, Scan) read of the graph around them."""
    found = dict.fromkeys(filter(None, node.input))
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inside = {value.name for value in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                found |= dict.fromkeys(name for name in _reads(inner) if name not in inside)
                inside.update(inner.output)
    return list(found)
