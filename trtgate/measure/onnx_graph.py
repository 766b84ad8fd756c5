"""What an ONNX graph asks for: its nodes, their work, and what a builder may leave out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import inliner, shape_inference

from trtgate.errors import InspectionError
from trtgate.measure.census import SourceNode
from trtgate.measure.flops import Shape, counted, flops_of
from trtgate.measure.onnx_skeleton import load_skeleton

# Equal inputs do not give equal outputs here.
_RANDOM: Final = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"})
_SUBGRAPHS: Final = frozenset({"If", "Loop", "Scan"})


def read_sources(path: Path, input_shapes: Mapping[str, Sequence[int]] | None = None) -> tuple[SourceNode, ...]:
    """The nodes of an ONNX file, in its order.

    Args:
        path: an .onnx file; its weights are not read.
        input_shapes: shape by input name, for models with dynamic dimensions.

    Raises:
        InspectionError: not an ONNX model, or a shape that a count needs cannot be inferred.
    """
    return sources_of_model(load_skeleton(path), input_shapes)


def sources_of_model(model: Any, input_shapes: Mapping[str, Sequence[int]] | None = None) -> tuple[SourceNode, ...]:
    """The nodes of an onnx.ModelProto; see `read_sources`."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    shapes = infer_shapes(model, input_shapes)
    graph = model.graph
    for node in graph.node:
        if node.op_type in _SUBGRAPHS:
            raise InspectionError(
                f"Node '{node.name}' is a {node.op_type}, whose body has no fixed amount of work.",
                "Export the model without control flow to inspect it.",
            )
    constant = _constant_tensors(graph)
    alive = _live_outputs(graph)
    twins = _duplicates(graph)
    names = unique_names(graph)
    found = []
    for position, (node, name) in enumerate(zip(graph.node, names, strict=True)):
        if node.op_type == "Constant":
            continue
        twin = twins.get(position)
        flops = flops_of(node, shapes)
        operands = 3 if node.op_type == "Attention" else 2
        first = next((output for output in node.output if output), "")
        found.append(
            SourceNode(
                name=name,
                op=node.op_type,
                flops=flops,
                activations=sum(i not in constant for i in list(node.input)[:operands]) if counted(node.op_type) else 0,
                output_elements=math.prod(shapes[first]) if first in shapes else None,
                constant=all(output in constant for output in node.output if output),
                dead=not any(output in alive for output in node.output),
                duplicate_of=names[twin] if twin is not None else None,
            )
        )
    return tuple(found)


def unique_names(graph: Any) -> list[str]:
    """One name a node: its own, else made from its operator and first output; repeated names get ``#2``, ``#3``."""
    seen: dict[str, int] = {}
    names = []
    for node in graph.node:
        name = node.name or f"{node.op_type}({next(iter(node.output), '')})"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def infer_shapes(model: Any, input_shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, Shape]:
    """Shape by tensor name, of every tensor whose extents are all known.

    Args:
        model: an onnx.ModelProto; its inputs' shapes are overwritten by ``input_shapes``.
        input_shapes: shape by input name.

    Raises:
        InspectionError: ``input_shapes`` names no input, or has another rank.
    """
    by_name = {value.name: value for value in model.graph.input}
    for name, wanted in (input_shapes or {}).items():
        if name not in by_name or len(by_name[name].type.tensor_type.shape.dim) != len(wanted):
            raise InspectionError(
                f"The model has no input '{name}' of {len(wanted)} dimensions.",
                f"Its inputs are: {', '.join(sorted(by_name))}.",
            )
        for extent, dim in zip(wanted, by_name[name].type.tensor_type.shape.dim, strict=True):
            dim.dim_value = extent
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if not value.type.tensor_type.HasField("shape"):
            continue
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    for node in inferred.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
    return shapes


def _constant_tensors(graph: Any) -> set[str]:
    fed = {value.name for value in graph.input}
    constant = {tensor.name for tensor in graph.initializer} - fed | {""}
    for node in graph.node:
        if node.op_type not in _RANDOM and all(name in constant for name in node.input):
            constant.update(node.output)
    return constant


def _live_outputs(graph: Any) -> set[str]:
    alive = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if not alive.isdisjoint(node.output):
            alive.update(node.input)
    return alive


def _duplicates(graph: Any) -> dict[int, int]:
    """Map the position of each node that repeats an earlier one to that one's position."""
    canonical: dict[str, str] = {}
    first: dict[tuple[Any, ...], int] = {}
    twins: dict[int, int] = {}
    for position, node in enumerate(graph.node):
        if node.op_type in _RANDOM or node.op_type == "Constant":
            continue
        attributes = tuple(sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute))
        inputs = tuple(canonical.get(name, name) for name in node.input)
        earlier = first.setdefault((node.domain, node.op_type, inputs, attributes), position)
        if earlier != position:
            twins[position] = earlier
            canonical.update(zip(node.output, graph.node[earlier].output, strict=False))
    return twins


def tensor_datatypes(model: Any) -> dict[str, str]:
    """ONNX datatype name (``FLOAT16``) by tensor name, where shape inference tells it."""
    inferred = shape_inference.infer_shapes(model).graph
    names = onnx.TensorProto.DataType.Name
    return {
        value.name: names(value.type.tensor_type.elem_type)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    } | {tensor.name: names(tensor.data_type) for tensor in inferred.initializer}
