"""Floating-point operations of ONNX nodes: matrix arithmetic only, a multiply-add counted as two.

Pointwise and normalising operators are left out on purpose: they are bound by memory, and what "computes in fp16"
claims is where the multiplications run. The convention (2 x multiply-accumulates of convolutions and matrix products)
is that of torch.utils.flop_counter and of fvcore.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trtgate.errors import InspectionError

Shape = tuple[int, ...]


def flops_of(node: Any, shapes: Mapping[str, Shape]) -> int:
    """Operations of one node.

    Args:
        node: an onnx.NodeProto.
        shapes: shape by tensor name; every extent known.

    Returns:
        0 for operators that are not matrix arithmetic.

    Raises:
        InspectionError: the node is matrix arithmetic, but a shape that it needs is unknown.
    """
    rule = _RULES.get(node.op_type)
    if rule is None:
        return 0
    try:
        return rule(node, [shapes[name] if name else () for name in node.input], [shapes[name] for name in node.output])
    except KeyError as error:
        raise InspectionError(
            f"The shape of {error} at node '{node.name}' ({node.op_type}) is unknown, so its work cannot be counted.",
            "Export the model with static shapes, or give the shapes of its inputs.",
        ) from None


def counted(op: str) -> bool:
    """Whether nodes of this operator are counted as matrix arithmetic."""
    return op in _RULES


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: attribute for attribute in node.attribute}


def _convolution(_node: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    # Weights are (out, in / groups, *kernel): each output element takes in / groups * kernel multiply-adds.
    return 2 * math.prod(outputs[0]) * math.prod(inputs[1][1:])


def _quantised_convolution(_node: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 2 * math.prod(outputs[0]) * math.prod(inputs[3][1:])


def _transposed_convolution(_node: Any, inputs: Sequence[Shape], _outputs: Sequence[Shape]) -> int:
    return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _matmul(_node: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    return 2 * math.prod(outputs[0]) * inputs[0][-1]


def _gemm(node: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    transposed = "transA" in (found := _attributes(node)) and bool(found["transA"].i)
    return 2 * math.prod(outputs[0]) * inputs[0][0 if transposed else 1]


def _einsum(node: Any, inputs: Sequence[Shape], _outputs: Sequence[Shape]) -> int:
    equation = _attributes(node)["equation"].s.decode().replace(" ", "")
    if "." in equation or len(inputs) < 2:
        raise InspectionError(
            f"The Einsum '{equation}' at node '{node.name}' cannot be counted.",
            "Write it without an ellipsis and with two operands, or as MatMul.",
        )
    extents: dict[str, int] = {}
    for letters, shape in zip(equation.split("->")[0].split(","), inputs, strict=True):
        extents.update(zip(letters, shape, strict=True))
    return 2 * math.prod(extents.values())


def _attention(node: Any, inputs: Sequence[Shape], _outputs: Sequence[Shape]) -> int:
    """ONNX Attention (opset 23): Q, K, V of (batch, heads, tokens, head size) or (batch, tokens, hidden)."""
    query, key, value = inputs[:3]
    found = _attributes(node)
    if len(query) == 3:
        heads = found["q_num_heads"].i
        batch, tokens, hidden = query
        head, value_head = hidden // heads, value[2] // found["kv_num_heads"].i
        context = key[1]
    else:
        batch, heads, tokens, head = query
        context, value_head = key[2], value[3]
    return int(2 * batch * heads * tokens * context * (head + value_head))


def _recurrent(gates: int) -> Callable[[Any, Sequence[Shape], Sequence[Shape]], int]:
    def rule(_node: Any, inputs: Sequence[Shape], _outputs: Sequence[Shape]) -> int:
        # X (tokens, batch, input), W (directions, gates * hidden, input), R (directions, gates * hidden, hidden).
        tokens, batch, features = inputs[0]
        directions, rows, _ = inputs[1]
        return 2 * tokens * batch * directions * rows * (features + rows // gates)

    return rule


_RULES: Final[dict[str, Callable[[Any, Sequence[Shape], Sequence[Shape]], int]]] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": _quantised_convolution,
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Attention": _attention,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
}
