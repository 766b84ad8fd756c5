"""Every intermediate tensor of an ONNX model, computed by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trtgate.backends.host_cpu import EXACT_INT8
from trtgate.errors import InspectionError

Array = npt.NDArray[Any]


class OnnxRuntimeTensors:
    """Shows any tensor of an ONNX model by computing it on the CPU.

    Args:
        model: an onnx.ModelProto with its weights; it is not changed.
        inputs: by name, in the model's datatypes.
        optimise: whether all graph optimisations are on, as in the session that is measured (`backends.onnxruntime`);
            a tensor that is asked for is never fused away.
        rounded: show a tensor that is only read by a quantise/dequantise pair as it is behind that pair. An output
            in front of it would keep ONNX Runtime from making the product an integer kernel. What it is compared with
            must be shown the same way.
        at_once: tensors of one run, so that memory holds one group and not the whole model's.
    """

    def __init__(
        self,
        model: Any,
        inputs: Mapping[str, Array],
        *,
        optimise: bool = False,
        rounded: bool = False,
        at_once: int = 64,
    ) -> None:
        self._model = model
        self._behind = _behind_pairs(model.graph) if rounded else {}
        self._inputs = {value.name: inputs[value.name] for value in model.graph.input if value.name in inputs}
        self._optimise = optimise
        self._at_once = at_once

    def values(self, tensors: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """Yield the tensors in the order in which they are asked for.

        Raises:
            InspectionError: ONNX Runtime refuses the model.
        """
        for start in range(0, len(tensors), self._at_once):
            group = tensors[start : start + self._at_once]
            asked = [name for name in group if name not in self._inputs]
            found = dict(self._inputs)
            if asked:
                shown = [self._behind.get(name, name) for name in asked]
                different = list(dict.fromkeys(shown))
                computed = _run(_with_outputs(self._model, different), self._inputs, different, optimise=self._optimise)
                by_name = dict(zip(different, computed, strict=True))
                found |= {name: by_name[tensor] for name, tensor in zip(asked, shown, strict=True)}
            yield from ((name, found[name]) for name in group)


def _behind_pairs(graph: Any) -> dict[str, str]:
    """For each tensor that only quantise/dequantise pairs read: the tensor behind the first of them."""
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    ends = {value.name for value in graph.output}
    found = {}
    for name, nodes in list(readers.items()):
        if name in ends or any(node.op_type != "QuantizeLinear" or node.input[0] != name for node in nodes):
            continue
        behind = next((one for one in readers[nodes[0].output[0]] if one.op_type == "DequantizeLinear"), None)
        if behind is not None:
            found[name] = behind.output[0]
    return found


def _with_outputs(model: Any, names: Sequence[str]) -> Any:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    # No type: ONNX Runtime infers it.
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return changed


def _run(model: Any, inputs: Mapping[str, Array], names: Sequence[str], *, optimise: bool) -> list[Array]:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_INT8)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(list(names), dict(inputs))
    except refusals as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InspectionError(
            f"ONNX Runtime cannot compute the model's intermediate tensors: {reason}.",
            "Bisect the case in a precision that ONNX Runtime's CPU provider has.",
        ) from None
    return [np.asarray(value) for value in found]
