"""BatchNorm folded into the convolution or linear layer before it, in float32.

torch's ONNX exporter folds BatchNorm too, in the datatype that the weights have by then. In float16 the folded weights
are rounded again and again: with seeded weights, run exactly as written by ONNX Runtime on the CPU, the files of
efficientnet_b0, mobilenet_v3_small and resnet18 were 1.4 to 6 times further from float64 than with weights that were
folded in float32 and rounded once, and beyond what PyTorch loses itself (torch 2.14.1, 2026-11-27; resnet18 batch 1
0.0033 and 0.0024 of the norm, eager 0.0020; efficientnet_b0 0.0160 and 0.0044, eager 0.0082). That is the exporter's
error and would count as the engine's. A builder that is given a float32 model folds in float32 as well.
"""

from __future__ import annotations

from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from trtgate.errors import ExportError

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def holds_batch_norm(module: nn.Module) -> bool:
    """Whether a module of this model normalises by batch statistics."""
    return any(isinstance(part, BATCH_NORM) for part in module.modules())


def folded(module: nn.Module, name: str) -> fx.GraphModule:
    """The same function, traced, with each BatchNorm folded that follows a convolution or linear layer.

    Args:
        module: float32, in eval mode; not changed.
        name: of the workload, for messages.

    Raises:
        ExportError: the module cannot be traced.
    """
    try:
        fused = fuse(module)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise ExportError(
            f"BatchNorm of '{name}' cannot be folded in float32: torch.fx cannot trace the module ({error}).",
            "Make its control flow independent of its inputs, or measure it in fp32.",
        ) from error
    assert isinstance(fused, fx.GraphModule)
    return fused
