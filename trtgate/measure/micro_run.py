"""Runs a quantised micro model and compares it with the same model as written.

Deep quantised models amplify the last bit of a sum until it is worth as much as quantising was, so that parity has to
allow them nearly that much (`trtgate.precision.reference`). A model of two products amplifies nothing: kernels that
multiply in int8 or fp8 agree with it to a few roundings, and a model that was not quantised at all does not.

On a GPU the engine is run. Without one ONNX Runtime runs int8: the same graph in float32 between its
quantise/dequantise pairs, which its CPU kernels multiply as integers. It has no fp8 kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import torch

from trtgate.backends import tensorrt_engine
from trtgate.backends.base import BuildContext
from trtgate.backends.cuda_device import cuda_answer, device_memory_of
from trtgate.backends.onnxruntime_intermediates import OnnxRuntimeTensors
from trtgate.backends.trt_runner import TensorRTEngineRunner
from trtgate.case import BackendName, Case, Precision
from trtgate.measure.float32_model import float32_twin
from trtgate.measure.placement import infer, on_stream, place
from trtgate.measure.reference import relative_l2
from trtgate.measure.violation import Violation
from trtgate.precision import tf32
from trtgate.precision.reference import onnx_reference

Tensors = tuple[torch.Tensor, ...]

_SEEDS: Final = range(4)


@dataclass(frozen=True, slots=True)
class Executed:
    """How far a quantised micro model that was run is from the same model as written.

    Attributes:
        backend: what ran it.
        relative_l2: of the worst output of the worst batch; infinite where an output is not finite.
        bound: what is allowed.
    """

    backend: BackendName
    relative_l2: float
    bound: float

    def violations(self) -> list[Violation]:
        """What it says against the claim that the model computes in its precision."""
        if self.relative_l2 <= self.bound:
            return []
        return [
            Violation(
                "precision reduction",
                f"run by {self.backend}, the model is {self.relative_l2:.2g} of the norm away from its own quantised "
                f"form as written; {self.bound:g} are allowed.",
            )
        ]

    def to_json(self) -> dict[str, object]:
        """Plain JSON for a record's facts."""
        return {"backend": self.backend.value, "relative_l2": self.relative_l2, "bound": self.bound}


def execute(onnx_path: Path, case: Case, context: BuildContext, bound: float) -> Executed | None:
    """Run a quantised micro model where there is something that runs it.

    Args:
        onnx_path: the model, with its quantise/dequantise pairs.
        case: decides the precision.
        context: where to build and to run.
        bound: relative L2 error that is allowed.

    Returns:
        None for a precision that is not quantised, and for fp8 without a GPU.

    Raises:
        TrtgateError: it cannot be built or run.
    """
    if not case.precision.quantised:
        return None
    if cuda_answer():
        return _compared(onnx_path, BackendName.TENSORRT_ENGINE, _by_engine(onnx_path, case, context), bound)
    if case.precision is not Precision.INT8:
        return None
    twin = onnx_path.with_name(f"{onnx_path.stem}_float32.onnx")
    onnx.save(float32_twin(onnx.load(onnx_path)), twin)
    return _compared(twin, BackendName.ONNXRUNTIME, _by_onnxruntime(twin), bound)


def _batches(onnx_path: Path) -> list[Tensors]:
    """Seeded standard normal inputs of the model's own types, one set a seed."""
    graph = onnx.load(onnx_path).graph
    found = []
    for seed in _SEEDS:
        generator = torch.Generator().manual_seed(seed)
        found.append(
            tuple(
                torch.randn([dim.dim_value for dim in value.type.tensor_type.shape.dim], generator=generator).to(
                    torch.float16 if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 else torch.float32
                )
                for value in graph.input
            )
        )
    return found


def _compared(onnx_path: Path, backend: BackendName, outputs: list[Tensors], bound: float) -> Executed:
    reference = onnx_reference(onnx_path)
    errors = [
        _relative_l2(found.double(), right.double())
        for inputs, batch in zip(_batches(onnx_path), outputs, strict=True)
        for found, right in zip(batch, reference(inputs), strict=True)
    ]
    return Executed(backend, max(errors), bound)


def _relative_l2(found: torch.Tensor, right: torch.Tensor) -> float:
    error = relative_l2(found, right)
    return error if math.isfinite(error) else math.inf


def _by_onnxruntime(onnx_path: Path) -> list[Tensors]:
    model = onnx.load(onnx_path)
    ends = [value.name for value in model.graph.output]
    found = []
    for inputs in _batches(onnx_path):
        named = {value.name: tensor.numpy() for value, tensor in zip(model.graph.input, inputs, strict=True)}
        shown = OnnxRuntimeTensors(model, named, optimise=True).values(ends)
        found.append(tuple(torch.from_numpy(values) for _, values in shown))
    return found


def _by_engine(onnx_path: Path, case: Case, context: BuildContext) -> list[Tensors]:
    graph = onnx.load(onnx_path).graph
    names, ends = ([value.name for value in values] for values in (graph.input, graph.output))
    with device_memory_of(case.id), on_stream(context), tf32.scope(case.precision):
        plan = tensorrt_engine.plan_of(onnx_path, case.precision, case.id, context, ahead_of_time=False)
        key = {**plan.key, "plan_sha256": plan.digest}
        with TensorRTEngineRunner(plan.content, key, case, context, names, ends) as runner:
            found = []
            for inputs in _batches(onnx_path):
                runner.bind(place(inputs, context))
                infer(runner, context)
                found.append(tuple(output.detach().to("cpu", copy=True) for output in runner.outputs()))
    return found
