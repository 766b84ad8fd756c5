"""The same ONNX graph in float32: the reference for every intermediate tensor.

Node for node and name for name the model that was built, so that each tensor has a counterpart. Quantise/dequantise
pairs stay: they are the model, not its error. ONNX Runtime has no float64 kernels for convolutions; float32 is a
reference for half and quantised precisions, whose rounding is a thousand times coarser.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_NARROW: Final = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Attributes that hold a datatype's number.
_TYPE_ATTRIBUTES: Final = frozenset({"to", "dtype", "output_dtype", "stash_type"})


def float32_twin(model: Any) -> Any:
    """A copy of a model with every half-precision tensor made float32.

    Args:
        model: an onnx.ModelProto with its weights.

    Returns:
        A new onnx.ModelProto with equal node and tensor names. int8 and float8 tensors are left as they are.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
                attribute.i = TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    # They would contradict the new types, and ONNX Runtime infers them anyway.
    del graph.value_info[:]
    return twin


def _widen(tensor: Any) -> None:
    if tensor.data_type not in _NARROW:
        return
    values = np.asarray(numpy_helper.to_array(tensor)).astype(np.float32)
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, tensor.dims, values.tobytes(), raw=True))
