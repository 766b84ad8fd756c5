"""Every intermediate tensor of an ONNX model, computed by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trtgate.errors import InspectionError

Array = npt.NDArray[Any]


class OnnxRuntimeTensors:
    """Shows any tensor of an ONNX model by computing it on the CPU.

    Args:
        model: an onnx.ModelProto with its weights; it is not changed.
        inputs: by name, in the model's datatypes.
        optimise: whether basic graph optimisations are on; a tensor that is asked for is never fused away.
        at_once: tensors of one run, so that memory holds one group and not the whole model's.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Array], *, optimise: bool = False, at_once: int = 64) -> None:
        self._model = model
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
                computed = _run(_with_outputs(self._model, asked), self._inputs, asked, optimise=self._optimise)
                found |= dict(zip(asked, computed, strict=True))
            yield from ((name, found[name]) for name in group)


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
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if optimise else levels.ORT_DISABLE_ALL
    options.log_severity_level = 3
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
