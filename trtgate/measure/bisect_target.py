"""What ``trtgate bisect`` searches: the ONNX file of a case, its inputs, and the error that rounding explains.

A tensor counts as wrong beyond half of what parity allows the case's outputs, so that a case that fails parity has an
output that is wrong here too: parity compares with float64, and the search with the same graph in float32, whose
weights are rounded as the candidate's are. A quantised case's graph is parity's own reference, and its limit the bound
itself, since rounding is a step that grows along a deep model. Neither is ever beyond ten times the precision's floor.
Parity's own seeds are searched, since a fault may show on one batch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import torch

from trtgate import policy
from trtgate.backends import onnx_export, registry, tensorrt_engine
from trtgate.backends.cuda_device import cuda_answer
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import ParityError, UsageError
from trtgate.measure import parity
from trtgate.measure.kept_reference import kept_reference
from trtgate.measure.onnx_skeleton import load_skeleton
from trtgate.measure.optimisation_run import micro_of
from trtgate.measure.workplace import build_context, workload_of
from trtgate.record import Parity

_LIMIT_OVER_FLOOR: Final = 10.0
_LIMIT_OVER_BOUND: Final = 0.5
_LIMIT_OVER_QUANTISED_BOUND: Final = 1.0
_FLOATING: Final = ("FLOAT", "FLOAT16", "BFLOAT16")


@dataclass(frozen=True, slots=True)
class Target:
    """What is searched.

    Attributes:
        path: the ONNX file that the candidate is built from.
        inputs: tensors by name, for a seed.
        limit: relative L2 error that rounding explains.
        prove: compares the case with its reference as the parity test does; None for files and micro models.
        unproven: why parity cannot judge this case; empty where it can, or has nothing to do with it.
    """

    path: Path
    backend: BackendName
    precision: Precision
    inputs: Callable[[int], dict[str, torch.Tensor]]
    limit: float
    prove: Callable[[], Parity] | None = None
    unproven: str = ""


def target_of_file(path: Path, case: Case, settings: policy.Policy) -> Target:
    """A file, with seeded standard normal inputs.

    Args:
        path: an ONNX file with static shapes.
        case: its backend and precision count.
        settings: the policy.

    Raises:
        InspectionError: it cannot be read, or is no ONNX model.
    """
    graph = load_skeleton(path).graph
    return Target(
        path,
        case.backend,
        case.precision,
        lambda seed: _random_inputs(path, graph, seed),
        _widest(case.precision, settings),
    )


def target_of_case(case: Case, cache: Path, settings: policy.Policy) -> Target:
    """A case of a workload or of a micro model.

    Raises:
        UsageError: an unknown workload.
        TrtgateError: it cannot be exported, or its reference cannot be computed.
    """
    if (micro := micro_of(case)) is not None:
        return target_of_file(micro.write(cache / "onnx", case.precision), case, settings)
    case, workload = workload_of(case.id, cache)
    context = build_context(cache, settings)
    if case.backend is BackendName.TENSORRT_ENGINE and cuda_answer():
        exported = tensorrt_engine.parsed_onnx(workload, case, context, ahead_of_time=False)
    else:
        exported = onnx_export.export(workload, case, cache, context.stopwatch, context.calibration)
    widest = _widest(case.precision, settings)

    def inputs(seed: int) -> dict[str, torch.Tensor]:
        return dict(zip(workload.input_names, workload.inputs(case.batch, case.sequence, seed), strict=True))

    try:
        reference = kept_reference(workload, case, settings.parity, context)
    except ParityError as error:
        # The search compares with the same graph in float32, which needs no reference of parity's.
        return Target(exported, case.backend, case.precision, inputs, widest, unproven=str(error))

    def prove() -> Parity:
        with registry.get(case.backend).build(workload, case, context) as runner:
            return parity.compare(runner, reference, settings.parity, case, workload, context)

    tolerance = settings.parity.tolerance[case.precision]
    bound = min(max(tolerance.factor * error, tolerance.floor) for error in reference.yardstick)
    share = _LIMIT_OVER_QUANTISED_BOUND if case.precision.quantised else _LIMIT_OVER_BOUND
    limit = min(widest, share * bound)
    return Target(exported, case.backend, case.precision, inputs, limit, prove)


def _widest(precision: Precision, settings: policy.Policy) -> float:
    return _LIMIT_OVER_FLOOR * settings.parity.tolerance[precision].floor


def _random_inputs(path: Path, graph: onnx.GraphProto, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {tensor.name for tensor in graph.initializer}
    found = {}
    for value in graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        if onnx.TensorProto.DataType.Name(kind.elem_type) not in _FLOATING or 0 in shape:
            raise UsageError(
                f"Input '{value.name}' of {path} is not a floating-point tensor of a static shape.",
                "Bisect the case that the file was exported for, which has inputs of its own.",
            )
        found[value.name] = torch.randn(shape, generator=generator)
    return found
