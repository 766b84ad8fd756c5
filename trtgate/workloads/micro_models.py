"""Purpose-built micro models: ONNX graphs that each hold exactly what one optimisation is said to take care of.

They are written as ONNX, not exported from PyTorch, because an exporter's own optimiser would remove the redundancies
before the engine's builder could. Node names are part of the contract: a check names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from trtgate import artefacts
from trtgate.case import Precision
from trtgate.errors import UnknownValueError, UnsupportedCaseError

Technique = Literal["operator fusion", "tensor fusion", "precision reduction", "graph optimisation", "planted fault"]

_OPSET: Final = 21
_IR_VERSION: Final = 10
_HIDDEN: Final = 64
_TYPES: Final = {
    Precision.FP32: TensorProto.FLOAT,
    Precision.TF32: TensorProto.FLOAT,
    Precision.FP16: TensorProto.FLOAT16,
    Precision.BF16: TensorProto.BFLOAT16,
    # Quantised models compute the rest in half precision, as ModelOpt's high_precision_dtype="fp16" does.
    Precision.INT8: TensorProto.FLOAT16,
    Precision.FP8: TensorProto.FLOAT16,
}
_QUANTISED: Final = {Precision.INT8: TensorProto.INT8, Precision.FP8: TensorProto.FLOAT8E4M3FN}


@dataclass(frozen=True, slots=True)
class MicroModel:
    """One graph and what must become of it.

    Attributes:
        technique: which of TensorRT's techniques it puts to the test.
        one_layer: groups of nodes of which each must end in a single layer.
        attention: the nodes of an attention block, in order; empty where there is none.
        merged: products that share an input; in how many layers they run is recorded and may not grow.
        absent: nodes of which nothing may be left in the engine.
        absent_operations: operations that no kernel may spell, as kernels name them.
        precisions: for which it can be built.
    """

    name: str
    technique: Technique
    build: Callable[[_Graph], None]
    one_layer: tuple[tuple[str, ...], ...] = ()
    attention: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    absent_operations: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.BF16)

    def model(self, precision: Precision) -> Any:
        """The checked onnx.ModelProto; equal at every call.

        Raises:
            UnsupportedCaseError: it has no such precision.
        """
        if precision not in self.precisions:
            raise UnsupportedCaseError(
                f"The micro model '{self.name}' has no {precision} form.",
                f"Use one of: {', '.join(self.precisions)}.",
            )
        graph = _Graph(precision)
        self.build(graph)
        return graph.finish(self.name)

    def write(self, folder: Path, precision: Precision) -> Path:
        """Write the model as ``<name>_<precision>.onnx`` and return the path.

        Raises:
            StorageError: the folder cannot be written.
            UnsupportedCaseError: it has no such precision.
        """
        content = self.model(precision).SerializeToString(deterministic=True)

        def fill(path: Path) -> None:
            path.write_bytes(content)

        return artefacts.write(folder / f"{self.name}_{precision}.onnx", fill)


def names() -> tuple[str, ...]:
    """Names of the micro models that an optimiser is tested on; ``overflow``, a planted fault, is not one of them."""
    return tuple(name for name, model in _MODELS.items() if model.technique != "planted fault")


def known() -> frozenset[str]:
    """Every name that `get` takes, planted faults included."""
    return frozenset(_MODELS)


def get(name: str) -> MicroModel:
    """A micro model by name.

    Raises:
        UnknownValueError: there is none of that name.
    """
    if name not in _MODELS:
        raise UnknownValueError("micro model", name, _MODELS)
    return _MODELS[name]


class _Graph:
    """Collects nodes, weights and ends of one graph in one precision."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.type = _TYPES[precision]
        self._random = np.random.default_rng(20260101)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, *shape: int) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, self.type, shape))
        return name

    def output(self, name: str, *shape: int) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, self.type, shape))

    def weight(self, name: str, *shape: int, value: float | None = None) -> str:
        """An initialiser: seeded normal numbers scaled to keep activations at unit variance, or one value."""
        if value is None:
            fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
            values = self._random.standard_normal(shape) / np.sqrt(fan_in)
        else:
            values = np.full(shape, value)
        self._weights.append(helper.make_tensor(name, self.type, shape, values.astype(np.float32).ravel().tolist()))
        return name

    def node(self, op: str, name: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def quantised(self, tensor: str, scale: float) -> str:
        """Put a quantise/dequantise pair behind a tensor where the precision has one."""
        kind = _QUANTISED.get(self.precision)
        if kind is None:
            return tensor
        step, zero = f"{tensor}_scale", f"{tensor}_zero"
        self._weights.append(helper.make_tensor(step, self.type, [], [scale]))
        self._weights.append(helper.make_tensor(zero, kind, [], [0]))
        self.node("QuantizeLinear", f"{tensor}_QuantizeLinear", [tensor, step, zero], f"{tensor}_q")
        return self.node("DequantizeLinear", f"{tensor}_DequantizeLinear", [f"{tensor}_q", step, zero], f"{tensor}_dq")

    def finish(self, name: str) -> Any:
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="trtgate"
        )
        onnx.checker.check_model(model)
        return model


def _conv_block(graph: _Graph) -> None:
    """Convolution + bias + relu, then conv + bias + residual add + relu."""
    shape = (2, _HIDDEN, 28, 28)
    graph.input("x", *shape)
    for index in (1, 2):
        graph.weight(f"w{index}", _HIDDEN, _HIDDEN, 3, 3)
        graph.weight(f"b{index}", _HIDDEN)
    square: Mapping[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    graph.node("Conv", "conv_plain", ["x", "w1", "b1"], "c1", **square)
    graph.node("Relu", "relu_plain", ["c1"], "r1")
    graph.node("Conv", "conv_residual", ["r1", "w2", "b2"], "c2", **square)
    graph.node("Add", "add_residual", ["c2", "r1"], "s")
    graph.node("Relu", "relu_residual", ["s"], "y")
    graph.output("y", *shape)


def _attention(graph: _Graph) -> None:
    """Scaled dot-product attention from its three inputs."""
    shape = (2, 4, 64, _HIDDEN)
    for name in ("q", "k", "v"):
        graph.input(name, *shape)
    graph.weight("factor", value=_HIDDEN**-0.5)
    graph.node("Transpose", "transpose_keys", ["k"], "kt", perm=[0, 1, 3, 2])
    graph.node("MatMul", "scores", ["q", "kt"], "s")
    graph.node("Mul", "scale", ["s", "factor"], "scaled")
    graph.node("Softmax", "softmax", ["scaled"], "p", axis=-1)
    graph.node("MatMul", "values", ["p", "v"], "y")
    graph.output("y", *shape)


def _parallel_matmuls(graph: _Graph) -> None:
    """Three products of one input, as in the query, key and value projections of attention."""
    graph.input("x", 4, 32, _HIDDEN)
    for part in ("query", "key", "value"):
        graph.weight(f"w_{part}", _HIDDEN, _HIDDEN)
        graph.node("MatMul", f"project_{part}", ["x", f"w_{part}"], part)
        graph.output(part, 4, 32, _HIDDEN)


def _parallel_convs(graph: _Graph) -> None:
    """Two 1x1 convolutions of one input, as in an inception block."""
    graph.input("x", 2, _HIDDEN, 28, 28)
    for part in ("left", "right"):
        graph.weight(f"w_{part}", _HIDDEN, _HIDDEN, 1, 1)
        graph.weight(f"b_{part}", _HIDDEN)
        graph.node("Conv", f"conv_{part}", ["x", f"w_{part}", f"b_{part}"], f"c_{part}", kernel_shape=[1, 1])
        graph.node("Relu", f"relu_{part}", [f"c_{part}"], part)
        graph.output(part, 2, _HIDDEN, 28, 28)


def _mlp(graph: _Graph) -> None:
    """Two products with a GELU between, quantised where the precision is."""
    graph.input("x", 64, _HIDDEN)
    graph.weight("w1", _HIDDEN, 4 * _HIDDEN)
    graph.weight("w2", 4 * _HIDDEN, _HIDDEN)
    step = 4.0 / (127 if graph.precision is Precision.INT8 else 448)
    graph.node("MatMul", "expand", [graph.quantised("x", step), graph.quantised("w1", step / 4)], "h")
    graph.node("Gelu", "gelu", ["h"], "g")
    graph.node("MatMul", "contract", [graph.quantised("g", step), graph.quantised("w2", step / 4)], "y")
    graph.output("y", 64, _HIDDEN)


def _redundant(graph: _Graph) -> None:
    """A repeated product, a constant chain, a dead branch, and a pair of transposes that cancel."""
    graph.input("x", 4, 32, _HIDDEN)
    for name in ("w", "w_dead", "w_last"):
        graph.weight(name, _HIDDEN, _HIDDEN)
    graph.weight("k1", _HIDDEN, value=2.0)
    graph.weight("k2", _HIDDEN, value=3.0)
    graph.node("MatMul", "product", ["x", "w"], "a")
    graph.node("MatMul", "product_again", ["x", "w"], "b")
    graph.node("Relu", "relu", ["a"], "ar")
    graph.node("Sigmoid", "sigmoid", ["b"], "bs")
    graph.node("Add", "join", ["ar", "bs"], "c")
    graph.node("Exp", "constant_exp", ["k1"], "k3")
    graph.node("Div", "constant_div", ["k3", "k2"], "k4")
    graph.node("Sqrt", "constant_sqrt", ["k4"], "k5")
    graph.node("Mul", "scale", ["c", "k5"], "d")
    graph.node("MatMul", "dead_product", ["x", "w_dead"], "dead1")
    graph.node("Relu", "dead_relu", ["dead1"], "dead2")
    graph.node("Transpose", "transpose_there", ["d"], "t1", perm=[0, 2, 1])
    graph.node("Transpose", "transpose_back", ["t1"], "t2", perm=[0, 2, 1])
    graph.node("MatMul", "last", ["t2", "w_last"], "y")
    graph.output("y", 4, 32, _HIDDEN)


def _overflow(graph: _Graph) -> None:
    """Attention without its scale: the scores of large activations leave float16, everything else fits."""
    graph.input("x", 8, _HIDDEN)
    for name in ("w_in", "w_query", "w_key", "w_value"):
        graph.weight(name, _HIDDEN, _HIDDEN)
    graph.weight("gain", value=300.0)
    graph.node("MatMul", "enter", ["x", "w_in"], "h")
    graph.node("Mul", "amplify", ["h", "gain"], "large")
    for part in ("query", "key", "value"):
        graph.node("MatMul", f"project_{part}", ["large", f"w_{part}"], part)
    graph.node("Transpose", "transpose_keys", ["key"], "key_t", perm=[1, 0])
    graph.node("MatMul", "scores", ["query", "key_t"], "s")
    graph.node("Softmax", "softmax", ["s"], "p", axis=-1)
    graph.node("MatMul", "mix", ["p", "value"], "y")
    graph.output("y", 8, _HIDDEN)
    # An output, so that the scores exist in float16 in every runtime: a fused kernel would keep them in float32.
    graph.output("s", 8, 8)


_MODELS: Final = {
    model.name: model
    for model in (
        MicroModel(
            "conv_block",
            "operator fusion",
            _conv_block,
            one_layer=(("conv_plain", "relu_plain"), ("conv_residual", "add_residual", "relu_residual")),
        ),
        MicroModel("attention", "operator fusion", _attention, attention=("scores", "scale", "softmax", "values")),
        MicroModel(
            "parallel_matmuls",
            "tensor fusion",
            _parallel_matmuls,
            merged=("project_query", "project_key", "project_value"),
        ),
        MicroModel("parallel_convs", "tensor fusion", _parallel_convs, merged=("conv_left", "conv_right")),
        MicroModel("mlp", "precision reduction", _mlp, precisions=tuple(_TYPES)),
        MicroModel(
            "redundant",
            "graph optimisation",
            _redundant,
            absent=("dead_product", "dead_relu", "transpose_there", "transpose_back"),
            absent_operations=("Exp", "Div", "Sqrt", "Tran"),
        ),
        # Not an optimisation: the fault that `trtgate bisect` is shown on.
        MicroModel("overflow", "planted fault", _overflow, precisions=(Precision.FP32, Precision.FP16)),
    )
}
