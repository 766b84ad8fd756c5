"""Cast a whole workload to one floating-point datatype: strong typing, in which every tensor has the type it shows.

Every backend gets the module that `prepare` returns, so that none is compared with a different computation. What an
ONNX file is made of computes the same, with BatchNorm folded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

import torch

from trtgate.case import Precision
from trtgate.errors import ExportError, TrtgateWarning, UnsupportedCaseError
from trtgate.precision import batch_norm, bf16
from trtgate.workloads.base import Workload

_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
    # Quantise/dequantise pairs stand in a float32 module.
    Precision.INT8: torch.float32,
    Precision.FP8: torch.float32,
}

_SEED: Final = 0


class BatchNormWarning(TrtgateWarning):
    """An fp16 ONNX file has BatchNorm that the exporter folds in fp16."""


def dtype_of(precision: Precision) -> torch.dtype:
    """Datatype of a module's floating-point inputs in a precision."""
    return _DTYPES[precision]


@torch.inference_mode(False)
def prepare(workload: Workload, precision: Precision, batch: int = 1, sequence: int | None = None) -> torch.nn.Module:
    """The workload's module in a precision: on the CPU, in eval mode, without gradients.

    For bf16 BatchNorm is folded and HardSwish and HardSigmoid are rewritten, which TensorRT's parser needs
    (`trtgate.precision.bf16`).

    Args:
        workload: whose module.
        precision: of its weights.
        batch: of the inputs on which a rewritten module is compared with what it was.
        sequence: tokens of these inputs.

    Raises:
        UnsupportedCaseError: a quantised precision, which needs calibration: see `trtgate.precision.quantise_torch`.
        ExportError: the module cannot be rewritten for bf16.
    """
    return _cast(_floating(workload, precision, batch, sequence), precision)


@torch.inference_mode(False)
def prepare_to_export(
    workload: Workload, precision: Precision, batch: int = 1, sequence: int | None = None
) -> torch.nn.Module:
    """As `prepare`, with BatchNorm folded in float32, before the weights are rounded.

    The exporter folds it too, in the datatype of the weights (`trtgate.precision.batch_norm`), and names the nodes
    otherwise. So it is folded for every precision, and the same node has the same name in all of them. A module that
    cannot be traced, or whose folded form computes something else, is left to the exporter, in fp16 with a warning.

    Args:
        workload: this and all others as for `prepare`.
        precision: see there.
        batch: see there.
        sequence: see there.

    Raises:
        UnsupportedCaseError, ExportError: as `prepare`.

    Warns:
        BatchNormWarning: what is left to the exporter is fp16.
    """
    module = _floating(workload, precision, batch, sequence)
    if batch_norm.holds_batch_norm(module):
        try:
            module = batch_norm.folded(module, workload.name, workload.inputs(batch, sequence, _SEED))
        except ExportError as error:
            if precision is Precision.FP16:
                said = f"{error} The exporter folds BatchNorm in fp16, which rounds more often than PyTorch does."
                # Past the wrapper that torch puts round this function, to whoever called it.
                warnings.warn(said, BatchNormWarning, stacklevel=3)
    return _cast(module, precision)


def _floating(workload: Workload, precision: Precision, batch: int, sequence: int | None) -> torch.nn.Module:
    if precision.quantised:
        raise UnsupportedCaseError(
            f"'{workload.name}' cannot be cast to {precision}: a quantised module needs calibration.",
            "Quantise it with trtgate.precision.quantise_torch.",
        )
    module = workload.module()
    if precision is not Precision.BF16 or not bf16.needs_rewriting(module):
        return module
    return bf16.rewrite(module, workload.name, workload.inputs(batch, sequence, _SEED))


def _cast(module: torch.nn.Module, precision: Precision) -> torch.nn.Module:
    return module.to(dtype_of(precision)).eval().requires_grad_(False)


def cast_inputs(inputs: Sequence[torch.Tensor], precision: Precision) -> tuple[torch.Tensor, ...]:
    """Floating-point tensors in the precision's datatype; integers as they are."""
    dtype = dtype_of(precision)
    return tuple(value.to(dtype) if value.is_floating_point() else value for value in inputs)
