"""Whether a rewritten module still computes what it computed: shown by running both, not assumed.

torch.fx sees one call with stand-ins for tensors. It does not see the hooks of the module itself, and a test such as
`torch.is_tensor` takes the branch that no tensor takes: what it traced then is another function, without an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from trtgate.case import Precision
from trtgate.errors import ExportError, first_line
from trtgate.precision import tf32

# Relative L2 error that float32 rounding of a deep network explains. BatchNorm folded in float32 moves no output of
# torchvision's models by more than 3.1e-6; what is traced or folded wrongly moves them by a large part of their norm.
MOST: Final = 1e-4


def require(module: nn.Module, rewritten: nn.Module, inputs: Sequence[torch.Tensor], name: str) -> None:
    """Compare every output on one batch.

    Args:
        module: in eval mode, on the CPU.
        rewritten: what was made of it.
        inputs: as the module takes them; not changed.
        name: of the workload, for messages.

    Raises:
        ExportError: the outputs differ by more than `MOST`, in number, shape or datatype, or one of the two cannot run.
        MeasurementError: torch's TF32 switches cannot be set; see `trtgate.precision.tf32`.
    """
    with tf32.scope(Precision.FP32):  # a tf32 case may let oneDNN round by more than what is allowed here
        try:
            expected, found = _outputs(module, inputs), _outputs(rewritten, inputs)
        except Exception as error:  # this runs the model's own code, which raises anything
            raise ExportError(
                f"What torch.fx makes of '{name}' cannot be compared with the module: {first_line(error)}.",
                "Rewrite what it names in the model, or measure it in fp32.",
            ) from error
    if (seen := _shapes(found)) != (wanted := _shapes(expected)):
        raise _another(name, f"it returns {seen} and not {wanted}")
    for place, (output, right) in enumerate(zip(found, expected, strict=True)):
        off = relative_l2(output.double(), right.double())
        if not off <= MOST:  # NaN is not
            raise _another(
                name, f"the relative error of output {place} is {off:.2g}, and rounding explains up to {MOST:.0e}"
            )


def relative_l2(found: torch.Tensor, right: torch.Tensor) -> float:
    """``norm(found - right) / norm(right)``; where both are the same infinity, as in a mask, there is no difference."""
    difference = torch.where(found == right, 0.0, found - right)
    size = right[right.isfinite()].norm()
    return float(difference.norm() / size) if size > 0 or difference.any() else 0.0


def _outputs(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        result = module(*(value.clone() for value in inputs))  # a model may write into its inputs
    # Cloned again, since a module may return the same buffer at every call.
    return [leaf.clone() for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _shapes(outputs: Sequence[torch.Tensor]) -> str:
    named = (f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape)}" for one in outputs)
    return ", ".join(named) or "no tensor"


def _another(name: str, seen: str) -> ExportError:
    return ExportError(
        f"What torch.fx makes of '{name}' is another function: {seen}.",
        "Look for what it does not see, such as hooks and branches on types, or measure it in fp32.",
    )
