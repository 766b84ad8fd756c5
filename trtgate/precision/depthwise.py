"""Depthwise convolutions of a bf16 ONNX model, computed in float32 between casts.

TensorRT-RTX 1.4.0.76 builds an engine with a bf16 depthwise convolution and then cannot compile it on compute
capability 9.0: creating an execution context fails in "cudnn_graph_utils.h: cuDNN graph compilation failed". Seen on an
H100 for the depthwise convolutions of mobilenet_v3_small, each alone in a model; its dense convolutions compile.
Widening is exact, so the engine's results differ from pure bf16 by less rounding, never by more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtgate import artefacts

_RECIPE: Final = 1


def widened(onnx_path: Path, cache: Path) -> Path:
    """The same model with its bf16 depthwise convolutions in float32, from the cache where that has it.

    Args:
        onnx_path: a model with its weights inside.
        cache: folder for artefacts.

    Returns:
        ``onnx_path`` itself where the model has no bf16 depthwise convolution.

    Raises:
        StorageError: the cache cannot be written.
    """
    key = artefacts.key(recipe=_RECIPE, onnx=artefacts.digest(onnx_path))
    path = cache / "onnx" / f"{onnx_path.stem.split('-')[0]}-widened-{key}.onnx"
    if artefacts.intact(path):
        return path
    model = onnx.load(onnx_path)
    if not widen(model):
        return onnx_path
    return artefacts.write(path, lambda file: onnx.save(model, file))


def widen(model: onnx.ModelProto) -> list[str]:
    """Widen every bf16 depthwise convolution in place.

    Args:
        model: its weights are initializers.

    Returns:
        Names of the nodes that were widened.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: list[str] = []
    for node in graph.node:
        if not _is_bf16_depthwise(node, weights):
            nodes.append(node)
            continue
        name = node.name or node.output[0]
        wide_input, narrow_output, wide_output = f"{name}_wide_input", node.output[0], f"{name}_wide_output"
        nodes.append(helper.make_node("Cast", [node.input[0]], [wide_input], f"{name}_widen", to=TensorProto.FLOAT))
        constants = [_wide_constant(graph, weights[each]) for each in node.input[1:]]
        convolution = onnx.NodeProto()
        convolution.CopyFrom(node)
        del convolution.input[:], convolution.output[:]
        convolution.input.extend([wide_input, *constants])
        convolution.output.append(wide_output)
        nodes.append(convolution)
        nodes.append(
            helper.make_node("Cast", [wide_output], [narrow_output], f"{name}_narrow", to=TensorProto.BFLOAT16)
        )
        done.append(name)
    del graph.node[:]
    graph.node.extend(nodes)
    return done


def _is_bf16_depthwise(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or any(each not in weights for each in node.input[1:]):
        return False
    kernel = weights[node.input[1]]
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    # One input channel a group: the kernel's second dimension.
    return kernel.data_type == TensorProto.BFLOAT16 and groups > 1 and kernel.dims[1] == 1


def _wide_constant(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> str:
    name = f"{tensor.name}_wide"
    if all(each.name != name for each in graph.initializer):
        values = numpy_helper.to_array(tensor).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, name))
    return name
