"""BatchNorm folded into the convolution or linear layer before it, in float32.

torch's ONNX exporter folds BatchNorm too, in the datatype that the weights have by then. In float16 the folded weights
are rounded again and again: with seeded weights, run exactly as written by ONNX Runtime on the CPU, the files of
efficientnet_b0, mobilenet_v3_small and resnet18 were 1.4 to 6 times further from float64 than with weights that were
folded in float32 and rounded once, and beyond what PyTorch loses itself (torch 2.14.1, 2026-11-27; resnet18 batch 1
0.0033 and 0.0024 of the norm, eager 0.0020; efficientnet_b0 0.0160 and 0.0044, eager 0.0082). That is the exporter's
error and would count as the engine's. A builder that is given a float32 model folds in float32 as well.

`torch.fx.experimental.optimization.fuse` is not used: it replaces a layer wherever it is called once it has folded one
call of it (the shared heads of RetinaNet), takes no notice of hooks, and knows no transposed convolution. What is made
here is compared with the module all the same, since tracing itself can make another function
(`trtgate.precision.same_function`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from trtgate.errors import ExportError, first_line
from trtgate.precision import same_function

BATCH_NORM = nn.modules.batchnorm._BatchNorm

# Exact types: a subclass may compute something else. A linear layer has its channels last; BatchNorm1d has them there
# too, on two-dimensional data alone, so what it makes of other data is found by comparing.
_NORM_AFTER: Final[Mapping[type, type]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.ConvTranspose1d: nn.BatchNorm1d,
    nn.ConvTranspose2d: nn.BatchNorm2d,
    nn.ConvTranspose3d: nn.BatchNorm3d,
    nn.Linear: nn.BatchNorm1d,
}


def holds_batch_norm(module: nn.Module) -> bool:
    """Whether a module of this model normalises by batch statistics."""
    return any(isinstance(part, BATCH_NORM) for part in module.modules())


def folded(module: nn.Module, name: str, inputs: Sequence[torch.Tensor]) -> fx.GraphModule:
    """The same function, traced, with each BatchNorm folded that follows a convolution or linear layer.

    Args:
        module: float32, in eval mode, on the CPU; not changed.
        name: of the workload, for messages.
        inputs: one of the workload's seeded batches, on which the result is compared with the module.

    Raises:
        ExportError: the module cannot be traced, or the result computes something else.
    """
    made, _ = fold_unchecked(module, name)
    same_function.require(module, made, inputs, name)
    return made


def fold_unchecked(module: nn.Module, name: str) -> tuple[fx.GraphModule, dict[str, str]]:
    """As `folded`, for a caller that goes on rewriting and compares what it ends with.

    Returns:
        The traced module, and why each BatchNorm that is left in it was not folded, by path.

    Raises:
        ExportError: the module cannot be traced.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(module).eval())
    except Exception as error:  # tracing runs the model's own code, which raises anything
        raise ExportError(
            f"Nothing of '{name}' can be rewritten: torch.fx cannot trace it ({first_line(error)}).",
            "Make its control flow independent of its inputs, or measure it in fp32.",
        ) from error
    left = {}
    for node in list(traced.graph.nodes):
        norm = _called(traced, node)
        if isinstance(norm, BATCH_NORM):
            why = _obstacle(traced, node, norm)
            if why is None:
                _fold(traced, node, norm)
            else:
                left[str(node.target)] = why
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, left


def _called(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _obstacle(traced: fx.GraphModule, node: fx.Node, norm: nn.modules.batchnorm._BatchNorm) -> str | None:
    """Why this call of a BatchNorm cannot be folded; None if it can."""
    source = node.all_input_nodes[0]
    layer = _called(traced, source)
    if layer is None or type(layer) not in _NORM_AFTER:
        return "it does not directly follow a convolution or linear layer of torch.nn"
    if type(norm) is not _NORM_AFTER[type(layer)]:
        return f"it is a {type(norm).__name__} after a {type(layer).__name__}"
    if len(source.users) > 1:
        return f"something else reads what '{source.target}' before it returns"
    if norm.running_mean is None or norm.running_var is None:
        return "it has no running statistics"
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if channels != norm.num_features:
        return f"it normalises {norm.num_features} channels and '{source.target}' before it returns {channels}"
    for path, part in ((source.target, layer), (node.target, norm)):
        # A hook of the layer must see what it returns without BatchNorm, and weight_norm computes weights in one.
        if part._forward_hooks or part._forward_pre_hooks:
            return f"'{path}' has a forward hook"
    return None


def _fold(traced: fx.GraphModule, node: fx.Node, norm: Any) -> None:
    source = node.all_input_nodes[0]
    path = str(source.target)
    made: Any = copy.deepcopy(_called(traced, source))
    transposed = made.groups if isinstance(made, nn.modules.conv._ConvTransposeNd) else None
    weight, made.bias = fuse_conv_bn_weights(
        made.weight if transposed is None else _swapped(made.weight, transposed),
        made.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    made.weight = weight if transposed is None else nn.Parameter(_swapped(weight, transposed), weight.requires_grad)
    # Other calls of the layer, and whatever reads its weight, go on with the layer as it is.
    readers = [one for one in traced.graph.nodes if _reads(one, path)]
    while len(readers) > 1 and _exists(traced, path):
        path += "_folded"
    traced.add_submodule(path, made)
    source.target = path
    node.replace_all_uses_with(source)
    traced.graph.erase_node(node)


def _swapped(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """A transposed convolution's weight with its channels, the inputs first, the other way round; its own inverse."""
    return weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)


def _reads(node: fx.Node, path: str) -> bool:
    return node.op in ("call_module", "get_attr") and f"{node.target}.".startswith(f"{path}.")


def _exists(traced: fx.GraphModule, path: str) -> bool:
    parent, _, name = path.rpartition(".")
    return hasattr(traced.get_submodule(parent), name)
