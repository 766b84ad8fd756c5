"""bf16 that TensorRT's ONNX parser takes: no BatchNorm, no HardSwish, no HardSigmoid.

torch's ONNX exporter folds BatchNorm into a convolution with a float32 kernel beside bfloat16 activations, which the
parser refuses; so BatchNorm is folded before, in float32. The parser refuses bfloat16 HardSwish and HardSigmoid too;
both are written as Add, Clip and Mul. The function that is computed stays the same, which is shown by running both
(`trtgate.precision.same_function`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from trtgate.errors import ExportError
from trtgate.precision import batch_norm, same_function


def needs_rewriting(module: nn.Module) -> bool:
    """Whether a sub-module is a BatchNorm, HardSwish or HardSigmoid."""
    return any(isinstance(part, (batch_norm.BATCH_NORM, nn.Hardswish, nn.Hardsigmoid)) for part in module.modules())


def rewrite(module: nn.Module, name: str, inputs: Sequence[torch.Tensor]) -> nn.Module:
    """The same function without BatchNorm, HardSwish and HardSigmoid; the module itself if it has none as a sub-module.

    Calls of torch.nn.functional.hardswish and hardsigmoid are rewritten too, where a sub-module gave reason to trace.

    Args:
        module: float32, in eval mode, on the CPU; not changed.
        name: of the workload, for messages.
        inputs: one of the workload's seeded batches, on which the result is compared with the module.

    Raises:
        ExportError: the module cannot be traced, a BatchNorm cannot be folded, or the result computes something else.
    """
    if not needs_rewriting(module):
        return module
    fused, left = batch_norm.fold_unchecked(module, name)
    for path, why in left.items():
        raise ExportError(
            f"BatchNorm '{path}' of '{name}' cannot be folded for bf16: {why}.", "Measure this workload in fp16."
        )
    _replace_activations(fused)
    same_function.require(module, fused, inputs, name)
    return fused.eval().requires_grad_(False)


def hardswish(value: torch.Tensor) -> torch.Tensor:
    """HardSwish, x * clip(x + 3, 0, 6) / 6 (Howard et al., "Searching for MobileNetV3", ICCV 2019)."""
    return value * hardsigmoid(value)


def hardsigmoid(value: torch.Tensor) -> torch.Tensor:
    """HardSigmoid, clip(x + 3, 0, 6) / 6."""
    return (value + 3).clamp(0, 6) * (1 / 6)


_BY_MODULE: dict[type[nn.Module], Callable[[torch.Tensor], torch.Tensor]] = {
    nn.Hardswish: hardswish,
    nn.Hardsigmoid: hardsigmoid,
}
_BY_FUNCTION: dict[Any, Callable[[torch.Tensor], torch.Tensor]] = {
    functional.hardswish: hardswish,
    functional.hardsigmoid: hardsigmoid,
}


def _replace_activations(module: fx.GraphModule) -> None:
    parts = dict(module.named_modules())
    for node in list(module.graph.nodes):
        if node.op == "call_module":
            simple = _BY_MODULE.get(type(parts[node.target]))
        else:
            simple = _BY_FUNCTION.get(node.target) if node.op == "call_function" else None
        if simple is None:
            continue
        with module.graph.inserting_before(node):
            replacement = module.graph.call_function(simple, (node.args[0],))
        node.replace_all_uses_with(replacement)
        module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    module.recompile()
