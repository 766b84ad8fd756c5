"""Census of what ONNX Runtime runs, from the optimised graph that a session wrote (``optimized_model_filepath``).

ONNX Runtime keeps no list of what it fused. Seen in 1.22 and newer: a fused node keeps the name of the tensor that it
produces, in its output, or, for blocked convolutions, in its own name (``relu_1_nchwc`` computes ``relu_1``); on CPUs
without kernels for half precision the casts that it inserts put ``InsertedPrecisionFreeCast_`` before the tensor's
name. The layout pass gives each node that it rewrites, the int8 convolutions above all, a name of its own with a number
behind (``conv1_token_5`` computes ``conv1``) and calls its output after the node. So the source nodes of a layer are
those between its anchor tensor and the anchors of earlier layers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from trtgate.measure.census import Census, Datatype, Layer, Role, TensorUse, datatype_of
from trtgate.measure.layer_kinds import role_of
from trtgate.measure.onnx_graph import infer_shapes, read_sources, tensor_datatypes, unique_names
from trtgate.measure.onnx_skeleton import load_skeleton

_INSERTED: Final = "InsertedPrecisionFreeCast_"
_BLOCKED_DOMAIN: Final = "com.microsoft.nchwc"
_BLOCKED_SUFFIX: Final = "_nchwc"
_RENAMED: Final = re.compile(r"_token_\d+$")
# Integer products round to the type of their output: the source's QuantizeLinear is part of them.
_INTEGER_PRODUCTS: Final = frozenset({"QLinearConv", "QLinearMatMul", "QGemm"})


def census_from_onnxruntime(optimised: Path, onnx_path: Path, *, runtime: str = "") -> Census:
    """Census of ONNX Runtime's optimised graph.

    Args:
        optimised: the graph that the session wrote.
        onnx_path: the model that the session was given.
        runtime: such as ``onnxruntime 1.31.0``.

    Raises:
        InspectionError: one of the files cannot be read or is not an ONNX model.
    """
    source = load_skeleton(onnx_path)
    graph = load_skeleton(optimised)
    types, shapes = _types(graph), infer_shapes(graph)
    weights = {tensor.name for tensor in graph.graph.initializer}
    claims = _Claims(source.graph)
    layers = []
    for node in graph.graph.node:
        if node.op_type == "Constant":
            continue
        role = _role(node)
        layers.append(
            Layer(
                name=node.name or f"{node.op_type}({node.output[0]})",
                kind=f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
                role=role,
                sources=() if role is Role.MOVEMENT and _inserted(node) else claims.claim(node),
                inputs=_uses([name for name in node.input if name not in weights], types, shapes),
                outputs=_uses(node.output, types, shapes),
                constants=_uses([name for name in node.input if name in weights], types, shapes),
            )
        )
    return Census(origin="onnxruntime", runtime=runtime, layers=tuple(layers), sources=read_sources(onnx_path))


class _Claims:
    """Hands each source node to the first layer whose anchor tensor depends on it."""

    def __init__(self, graph: Any) -> None:
        names = unique_names(graph)
        self._producer = {tensor: i for i, node in enumerate(graph.node) for tensor in node.output if tensor}
        self._inputs = [list(node.input) for node in graph.node]
        self._names = names
        self._index = {name: i for i, name in enumerate(names)}
        self._skipped = {i for i, node in enumerate(graph.node) if node.op_type == "Constant"}
        self._claimed: set[int] = set()
        self._ops = [node.op_type for node in graph.node]
        self._consumers: dict[int, list[int]] = {}
        for i, node in enumerate(graph.node):
            for tensor in node.input:
                if tensor in self._producer:
                    self._consumers.setdefault(self._producer[tensor], []).append(i)

    def claim(self, node: Any) -> tuple[str, ...]:
        found: set[int] = set()
        waiting = [self._producer[tensor] for tensor in _anchors(node) if tensor in self._producer]
        own = self._own(node)
        waiting += [own] if own is not None else []
        while waiting:
            index = waiting.pop()
            if index not in self._claimed and index not in found:
                found.add(index)
                waiting.extend(self._producer[tensor] for tensor in self._inputs[index] if tensor in self._producer)
        found |= self._epilogue(node, found)
        self._claimed |= found
        return tuple(self._names[index] for index in sorted(found - self._skipped))

    def _own(self, node: Any) -> int | None:
        """The source node whose name it bears, perhaps renamed by a pass (``relu/duplicated``, ``conv1_token_5``)."""
        renamed = _RENAMED.sub("", node.name)
        names = (node.name, renamed, renamed.split("/")[0])
        return next((self._index[name] for name in names if name in self._index), None)

    def _epilogue(self, node: Any, found: set[int]) -> set[int]:
        """What was taken in after the name was given: a residual sum, an activation, the rounding to integers."""
        if node.op_type in _INTEGER_PRODUCTS:
            behind = self._consumers.get(own, ()) if (own := self._own(node)) in found else ()
            return {i for i in behind if self._ops[i] == "QuantizeLinear"} - self._claimed
        if node.domain != _BLOCKED_DOMAIN or not found:
            return set()
        activation = next((one.s.decode() for one in node.attribute if one.name == "activation"), None)
        expected = (["Add"] if len(node.input) > 3 and node.input[3] else []) + ([activation] if activation else [])
        taken: set[int] = set()
        at = max(found)
        for op in expected:
            if self._ops[at] == op and op == activation:
                break
            following = next((i for i in self._consumers.get(at, ()) if self._ops[i] == op), None)
            if following is None:
                break
            taken.add(following)
            at = following
        return taken


def _anchors(node: Any) -> list[str]:
    names = [name.removeprefix(_INSERTED) for name in node.output]
    if node.domain == _BLOCKED_DOMAIN:
        names.append(node.name.removesuffix(_BLOCKED_SUFFIX).removeprefix(_INSERTED))
    return names


def _inserted(node: Any) -> bool:
    return node.op_type in ("Cast", "ReorderInput", "ReorderOutput") and (
        node.domain == _BLOCKED_DOMAIN or node.name.startswith(_INSERTED)
    )


def _role(node: Any) -> Role:
    if node.op_type.startswith("Reorder"):
        return Role.MOVEMENT
    return role_of(node.op_type, "", ())


def _types(model: Any) -> dict[str, Datatype]:
    types = {name: datatype_of(text) for name, text in tensor_datatypes(model).items()}
    for node in model.graph.node:
        if node.domain == _BLOCKED_DOMAIN:
            # Blocked layouts exist in float32 alone.
            types.update(dict.fromkeys(filter(None, node.output), Datatype.FP32))
            types.update({name: Datatype.FP32 for name in node.input if types.get(name) is None and name})
        known = next((types[name] for name in node.input if name in types), Datatype.UNKNOWN)
        if node.op_type.endswith("ToFloat"):  # integer products that are dequantised at once
            known = Datatype.FP32
        for name in node.output:
            if name.startswith(_INSERTED):
                types.setdefault(name, Datatype.FP32)
            types.setdefault(name, known)
    return types


def _uses(names: Any, types: dict[str, Datatype], shapes: dict[str, tuple[int, ...]]) -> tuple[TensorUse, ...]:
    return tuple(
        TensorUse(name=name, shape=shapes.get(name, ()), datatype=types.get(name, Datatype.UNKNOWN))
        for name in names
        if name
    )
