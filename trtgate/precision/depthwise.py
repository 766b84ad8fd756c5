"""Depthwise convolutions of a bf16 ONNX model, written as sums of shifted products.

TensorRT-RTX 1.4.0.76 builds an engine with a bf16 depthwise convolution and then cannot compile it on compute
capability 9.0: creating an execution context fails in "cudnn_graph_utils.h: cuDNN graph compilation failed". With the
convolution in float32 between casts the engine runs, and returns NaN. The same sum written out, one product a tap of
the kernel, is fused into one generated kernel, which is right and faster than the float32 convolution: figures in
docs/adr/0006-bf16-depthwise-written-out.md.

The sum is taken in float32 and rounded once, so the engine's results differ from pure bf16 by less rounding.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtgate import artefacts

_RECIPE: Final = 2
_SPATIAL: Final = (2, 3)


def unrolled(onnx_path: Path, cache: Path) -> Path:
    """The same model with its bf16 depthwise convolutions written out, from the cache where that has it.

    Args:
        onnx_path: a model with its weights inside and static shapes.
        cache: folder for artefacts.

    Returns:
        ``onnx_path`` itself where the model has no such convolution.

    Raises:
        StorageError: the cache cannot be written.
    """
    key = artefacts.key(recipe=_RECIPE, onnx=artefacts.digest(onnx_path))
    path = cache / "onnx" / f"{onnx_path.stem.split('-')[0]}-unrolled-{key}.onnx"
    if artefacts.intact(path):
        return path
    model = onnx.load(onnx_path)
    if not unroll(model):
        return onnx_path
    return artefacts.write(path, lambda file: onnx.save(model, file))


def unroll(model: onnx.ModelProto) -> list[str]:
    """Write out every bf16 depthwise convolution of two dimensions, in place.

    Args:
        model: its weights are initializers, and the shapes of its tensors are known.

    Returns:
        Names of the nodes that were written out.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sizes = _sizes(model)
    nodes: list[onnx.NodeProto] = []
    done: list[str] = []
    for node in graph.node:
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        size = sizes.get(node.output[0]) if node.output else None
        if size is None or not _is_bf16_depthwise(node, attributes, weights):
            nodes.append(node)
            continue
        nodes += _Unrolled(graph, node, attributes, weights, size).nodes()
        done.append(node.name or node.output[0])
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return done


def _sizes(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Height and width of every tensor of four static dimensions."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*inferred.value_info, *inferred.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if len(dims) == 4 and all(dims):
            found[value.name] = (dims[2], dims[3])
    return found


def _is_bf16_depthwise(node: onnx.NodeProto, attributes: dict[str, Any], weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or any(each not in weights for each in node.input[1:]):
        return False
    kernel = weights[node.input[1]]
    groups = attributes.get("group", 1)
    return (
        kernel.data_type == TensorProto.BFLOAT16
        and groups > 1
        # One channel in and one out a group, in two dimensions, padded by numbers.
        and list(kernel.dims[:2]) == [groups, 1]
        and len(kernel.dims) == 4
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


class _Unrolled:
    """One convolution as: cast, pad, one slice and product a tap, their sum, cast."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        node: onnx.NodeProto,
        attributes: dict[str, Any],
        weights: dict[str, onnx.TensorProto],
        size: tuple[int, int],
    ) -> None:
        self._graph = graph
        self._node = node
        self._name = node.name or node.output[0]
        self._size = size
        self._strides = attributes.get("strides", [1, 1])
        self._dilations = attributes.get("dilations", [1, 1])
        self._pads = attributes.get("pads", [0, 0, 0, 0])
        self._kernel, *bias = (numpy_helper.to_array(weights[each]).astype(np.float32) for each in node.input[1:])
        channels = self._kernel.shape[0]
        self._bias = bias[0] if bias else np.zeros(channels, np.float32)

    def nodes(self) -> list[onnx.NodeProto]:
        """In order; the constants that they read are added to the graph."""
        made = [self._make("Cast", "wide", [self._node.input[0]], to=TensorProto.FLOAT)]
        top, left, bottom, right = self._pads
        if any(self._pads):
            pads = self._constant("pads", [0, 0, top, left, 0, 0, bottom, right])
            made.append(self._make("Pad", "padded", [made[-1].output[0], pads]))
        padded = made[-1].output[0]
        axes, steps = self._constant("axes", _SPATIAL), self._constant("steps", self._strides)
        total = self._constant("bias", self._bias.reshape(1, -1, 1, 1))
        for row, column in itertools.product(*(range(length) for length in self._kernel.shape[2:])):
            tap = f"{row}_{column}"
            start = [row * self._dilations[0], column * self._dilations[1]]
            end = [
                first + (size - 1) * step + 1
                for first, size, step in zip(start, self._size, self._strides, strict=True)
            ]
            bounds = [self._constant(f"start_{tap}", start), self._constant(f"end_{tap}", end)]
            weight = self._constant(f"weight_{tap}", self._kernel[:, 0, row, column].reshape(1, -1, 1, 1))
            made.append(self._make("Slice", f"slice_{tap}", [padded, *bounds, axes, steps]))
            made.append(self._make("Mul", f"product_{tap}", [made[-1].output[0], weight]))
            made.append(self._make("Add", f"sum_{tap}", [total, made[-1].output[0]]))
            total = made[-1].output[0]
        narrow = helper.make_node(
            "Cast", [total], [self._node.output[0]], f"{self._name}_narrow", to=TensorProto.BFLOAT16
        )
        return [*made, narrow]

    def _make(self, op: str, what: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
        name = f"{self._name}_{what}"
        return helper.make_node(op, inputs, [f"{name}_output"], name, **attributes)

    def _constant(self, what: str, values: Any) -> str:
        name = f"{self._name}_{what}"
        array = np.asarray(values)
        typed = array if array.dtype == np.float32 else array.astype(np.int64)
        self._graph.initializer.append(numpy_helper.from_array(typed, name))
        return name
