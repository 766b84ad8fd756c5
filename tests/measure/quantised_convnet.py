"""An int8 convnet of two convolutions and a classifier, every product between quantise/dequantise pairs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PRODUCTS = ("conv_first", "conv_second", "classify")


def int8_convnet(activation=TensorProto.UINT8):
    """An onnx.ModelProto as ONNX Runtime's own quantiser writes it: weights int8, activations of a type."""
    random = np.random.default_rng(5)
    nodes, weights = [], []
    zero = 128 if activation == TensorProto.UINT8 else 0

    def constant(name, value):
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pair(tensor):
        step = constant(f"{tensor}_scale", np.float32(0.05))
        middle = constant(f"{tensor}_zero", np.array(zero, helper.tensor_dtype_to_np_dtype(activation)))
        nodes.append(helper.make_node("QuantizeLinear", [tensor, step, middle], [f"{tensor}_q"], f"{tensor}_quantise"))
        nodes.append(
            helper.make_node(
                "DequantizeLinear", [f"{tensor}_q", step, middle], [f"{tensor}_dq"], f"{tensor}_dequantise"
            )
        )
        return f"{tensor}_dq"

    def kernel(name, *shape):
        values = constant(f"{name}_int8", random.integers(-100, 100, shape, dtype=np.int8))
        step = constant(f"{name}_scale", np.float32(0.01))
        middle = constant(f"{name}_zero", np.int8(0))
        nodes.append(helper.make_node("DequantizeLinear", [values, step, middle], [name], f"{name}_dequantise"))
        return name

    def convolution(name, source, channels_in, channels_out):
        inputs = [pair(source), kernel(f"{name}_w", channels_out, channels_in, 3, 3)]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_out"], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [pair(f"{name}_out")], [f"{name}_relu"], f"{name}_activation"))
        return f"{name}_relu"

    hidden = convolution("conv_second", convolution("conv_first", "image", 3, 16), 16, 16)
    nodes.append(helper.make_node("Flatten", [pair(hidden)], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", [pair("flat"), kernel("classify_w", 16 * 64, 10)], ["logits"], "classify"))
    graph = helper.make_graph(
        nodes,
        "int8_convnet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (2, 3, 8, 8))],
        [helper.make_tensor_value_info(pair("logits"), TensorProto.FLOAT, (2, 10))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model
