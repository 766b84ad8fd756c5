"""What a quantiser did, by name: which nodes it quantised, which it left alone, and the ranges that it chose."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from trtgate.errors import CalibrationError, RecordError, TrtgateWarning

if TYPE_CHECKING:
    import onnx

# Operators that multiply matrices, and so hold nearly all of a network's arithmetic: the ones whose absence from int8
# has to be explained. They are those whose work `trtgate.measure.flops` counts.
COMPUTE_OPERATORS: Final = frozenset(
    {"Attention", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"}
)
# Largest magnitude of the quantised datatype; a scale times this is the range that calibration chose.
_LARGEST: Final = {"int8": 127.0, "fp8": 448.0}
# ModelOpt's rules of thumb for TensorRT's kernels; see `_reason`.
_MIN_SIDE: Final = 16
_MAX_FP8_FILTER: Final = 32
_SCHEMA: Final = 2
_NAMED: Final = 3


class SkippedOperatorsWarning(TrtgateWarning):
    """A quantised model has convolutions or matrix products that the quantiser left in floating point."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of an ONNX graph, or a module of a PyTorch model.

    Attributes:
        name: as it stands in the model.
        operator: ONNX operator type or module class.
        note: of a skipped one, what is known of the reason.
        by_rule: whether that reason is a rule of the quantiser's own for the runtime's kernels.
    """

    name: str
    operator: str
    note: str = ""
    by_rule: bool = False


@dataclass(frozen=True, slots=True)
class QuantisationReport:
    """Sidecar of a quantised model.

    Attributes:
        precision: int8 or fp8.
        high_precision: datatype of everything that is not quantised.
        placement: who decided where Q/DQ pairs go.
        calibration: spec and digest of the data.
        tool: the quantiser and its version.
        quantised: compute nodes whose operands are both dequantised, and other nodes that read a dequantised tensor.
        skipped: compute nodes (`COMPUTE_OPERATORS`; in PyTorch, modules with weight matrices) that stayed in high
            precision.
        ranges: largest magnitude that each quantised activation can hold, by tensor.
        warnings: what the quantiser said at level warning or above.
    """

    precision: str
    high_precision: str
    placement: str
    calibration: dict[str, Any]
    tool: str
    quantised: tuple[Node, ...]
    skipped: tuple[Node, ...]
    ranges: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def skipped_by_rule(self) -> dict[str, str]:
        """Nodes that a rule of the quantiser's left in high precision, and which rule."""
        return {node.name: node.note for node in self.skipped if node.by_rule}

    def facts(self) -> dict[str, Any]:
        """What a record of a build keeps: ``calibration`` and ``skipped``, as plain JSON."""
        return {"calibration": dict(self.calibration), "skipped": [asdict(node) for node in self.skipped]}

    def dumps(self) -> str:
        """JSON text."""
        return json.dumps({"schema": _SCHEMA, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def loads(cls, text: str) -> QuantisationReport:
        """Read `dumps` back.

        Raises:
            RecordError: not such a report, or one of another version.
        """
        try:
            data = json.loads(text)
            if data.pop("schema") != _SCHEMA:
                raise ValueError("it has another schema")
            data["quantised"] = tuple(Node(**node) for node in data["quantised"])
            data["skipped"] = tuple(Node(**node) for node in data["skipped"])
            data["warnings"] = tuple(data["warnings"])
            return cls(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"A quantisation report cannot be read ({error}).", "Delete it; it is written anew."
            ) from None


def skipped_sentence(skipped: Sequence[Mapping[str, str]]) -> str:
    """Which operators were not quantised, and why, in one sentence.

    Args:
        skipped: as in `QuantisationReport.facts`; not empty.
    """
    kinds = ", ".join(f"{count} {operator}" for operator, count in Counter(n["operator"] for n in skipped).items())
    named = [f"'{node['name']}'" + (f" ({node['note']})" if node["note"] else "") for node in skipped[:_NAMED]]
    more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    return f"ModelOpt did not quantise {kinds}: {', '.join(named)}{more}."


def of_graph(
    model: onnx.ModelProto,
    *,
    precision: str,
    high_precision: str,
    placement: str,
    calibration: dict[str, Any],
    tool: str,
    warnings: tuple[str, ...],
    operators: Collection[str],
) -> QuantisationReport:
    """Read the report off a model with Q/DQ nodes.

    Args:
        model: with its weights.
        precision: this and all others but the last: fields of the report.
        high_precision: see there.
        placement: see there.
        calibration: see there.
        tool: see there.
        warnings: see there.
        operators: what was to be quantised.

    Raises:
        CalibrationError: no node was quantised, or a scale is zero, infinite or NaN.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    quantised, skipped, ranges = [], [], {}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = numpy_helper.to_array(constants[node.input[1]]) if node.input[1] in constants else None
            if scale is not None:
                largest = float(scale.max())
                if not (math.isfinite(largest) and float(scale.min()) > 0.0):
                    raise CalibrationError(
                        f"The scale of tensor '{node.input[0]}' lies between {float(scale.min())} and {largest} in "
                        f"{scale.dtype}.",
                        "Keep that tensor's node out of quantisation, or quantise with high precision fp32: every "
                        "value divided by such a scale is lost.",
                    )
                if node.op_type == "QuantizeLinear" and node.input[0] not in constants:
                    ranges[node.input[0]] = largest * _LARGEST[precision]
        elif node.op_type not in COMPUTE_OPERATORS:
            if any(name in dequantised for name in node.input):
                quantised.append(Node(node.name, node.op_type))
        elif node.op_type not in operators:
            # It may well read what another node's output pair dequantised: that alone does not make it quantised.
            skipped.append(Node(node.name, node.op_type, f"ModelOpt or the runtime has no {precision} form of it"))
        elif all(name in dequantised for name in node.input[:2]):
            quantised.append(Node(node.name, node.op_type))
        else:
            note, by_rule = _reason(node, constants, precision, placement)
            skipped.append(Node(node.name, node.op_type, note, by_rule))
    if not quantised:
        raise _nothing(model, skipped, precision, high_precision, placement)
    return QuantisationReport(
        precision, high_precision, placement, calibration, tool, tuple(quantised), tuple(skipped), ranges, warnings
    )


def _nothing(
    model: onnx.ModelProto, skipped: Sequence[Node], precision: str, high_precision: str, placement: str
) -> CalibrationError:
    seen = ", ".join(sorted({node.op_type for node in model.graph.node}))
    notes = f" ({'; '.join(f'{node.name}: {node.note}' for node in skipped[:4] if node.note)})" if skipped else ""
    # The placement 'every' sets rules aside; it cannot quantise what there is no quantised form of.
    by_rule = any(node.by_rule for node in skipped)
    return CalibrationError(
        f"There is nothing to quantise to {precision}: the model's operators are {seen}, "
        + (f"and the placement '{placement}' left" if by_rule else "and ModelOpt left")
        + f" them all in {high_precision}{notes}.",
        "Measure this workload in fp16"
        + (', or set placement = "every" in [calibration] of trtgate.toml.' if by_rule else "."),
    )


def _reason(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], precision: str, placement: str
) -> tuple[str, bool]:
    """What is known of why a node was left alone, and whether that is one of the quantiser's rules.

    The rules are ModelOpt 0.47's for TensorRT's kernels (`find_nodes_from_convs_to_exclude` and
    `find_nodes_from_matmul_to_exclude` in modelopt/onnx/quantization/graph_utils.py).
    """
    weight = constants.get(node.input[1])
    if weight is None:
        return "no constant weight", False
    dims = list(weight.dims)
    shape = f"weight {dims}"
    if placement != "tensorrt":
        return shape, False
    if node.op_type == "Conv":
        if min(dims[:2]) < _MIN_SIDE:
            return f"{shape}: fewer than {_MIN_SIDE} channels", True
        if precision == "fp8" and math.prod(dims[2:]) > _MAX_FP8_FILTER:
            return f"{shape}: a filter of more than {_MAX_FP8_FILTER} values in fp8", True
        if precision == "fp8" and min(dims[:2]) == _MIN_SIDE:
            return f"{shape}: only {_MIN_SIDE} channels in fp8", True
    elif node.op_type != "ConvTranspose" and min(dims) < _MIN_SIDE:
        return f"{shape}: a side shorter than {_MIN_SIDE}", True
    return shape, False
