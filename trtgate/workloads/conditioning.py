"""Make a network of random weights behave like a trained one: activations of order one, outputs that tell inputs apart.

torchvision's own initialisation is made for the start of training. Taken as it is, vit_b_16 answers exactly zero,
mobilenet_v3_small's logits differ between inputs by 6e-10 and efficientnet_b0's by 1e-14: an engine that ignores its
input would pass any comparison. So data decide the scale and the centre of every layer, in one pass from the first
layer to the last:

- the weight of a linear or convolution layer is scaled so that its output has unit variance (layer-sequential
  unit-variance initialisation: Mishkin and Matas, "All you need is a good init", ICLR 2016);
- its bias is set so that every channel has zero mean over the data (Kraehenbuehl et al., "Data-dependent
  initializations of convolutional neural networks", ICLR 2016): without it, what all inputs have in common outgrows
  what tells them apart, layer by layer;
- BatchNorm's running statistics become those of the data, and its gain shrinks where a channel is weaker than its
  layer: a random filter that hardly responds would else be blown up, rounding errors and all.

Scales are powers of two, and centres and statistics keep eight bits, all computed in float64: the rounding of one CPU
or another does not reach the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from trtgate.errors import WorkloadError
from trtgate.policy import ParitySettings

_MANTISSA_BITS = 8
# 16 times below float16's largest finite number, so that sums and other inputs have room.
MAX_ACTIVATION = 4096.0
MIN_SPREAD: float = ParitySettings.model_fields["min_logit_spread"].default

Conditioning = dict[str, torch.Tensor]
"""Values to give to the parameters and buffers that conditioning sets: scales by ``<parameter>*``, others by name."""

_SCALE = "*"
# Modules that pass the weights of a last linear layer to a function, so that a hook on that layer never fires.
_LAST_LINEAR = {"MultiheadAttention": "out_proj", "ShiftedWindowAttention": "proj"}


def spread(outputs: torch.Tensor) -> float:
    """How much outputs tell the examples of a batch apart, relative to their magnitude.

    Args:
        outputs: shape (batch, ...), at least two examples.

    Returns:
        Root mean square over elements of the standard deviation across the batch, divided by the root mean square of
        all values; 0 when all values are zero. About 1 for outputs that have nothing in common.
    """
    values = outputs.detach().double().flatten(1)
    magnitude = values.square().mean().sqrt()
    if magnitude == 0:
        return 0.0
    return float(values.var(dim=0, correction=0).mean().sqrt() / magnitude)


@torch.no_grad()
def condition(module: nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> Conditioning:
    """Find scales, centres and statistics for a module whose weights are seeded random numbers.

    Args:
        module: float32, on the CPU, in eval mode; left as it was.
        inputs: one batch of the workload's inputs.
        name: of the workload, for messages.

    Returns:
        What `apply` takes; float32 tensors.

    Raises:
        WorkloadError: a layer's output is constant or not finite, or an activation is too large for float16.
    """
    found: Conditioning = {}
    original = {key: value.clone() for key, value in module.state_dict().items()}
    module.double()
    try:
        with _hooks(module, found, name):
            module(*(value.double() if value.is_floating_point() else value for value in inputs))
    finally:
        module.float()
        module.load_state_dict(original)
    return {key: value.float() for key, value in found.items()}


@torch.no_grad()
def apply(module: nn.Module, conditioning: Conditioning) -> None:
    """Give a module of equal seeded weights the scales, centres and statistics that `condition` found.

    Raises:
        KeyError: the conditioning belongs to another module.
    """
    state = module.state_dict(keep_vars=True)
    for key, value in conditioning.items():
        if key.endswith(_SCALE):
            state[key.removesuffix(_SCALE)].data.mul_(value)
        else:
            state[key].data.copy_(value)


def require_spread(module: nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> None:
    """Refuse a module whose outputs hardly depend on its inputs, or overflow.

    Raises:
        WorkloadError: an output is not finite, or its `spread` is below the policy's default for logits.
    """
    with torch.inference_mode():
        outputs = module(*inputs)
    for index, output in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
        if not torch.isfinite(output).all():
            raise WorkloadError(f"Output {index} of '{name}' is not finite in float32.", _REPORT)
        value = spread(output)
        if value < MIN_SPREAD:
            raise WorkloadError(
                f"Output {index} of '{name}' hardly depends on the input: its spread is {value:.1e}, below "
                f"{MIN_SPREAD:.0e}.",
                _REPORT,
            )


_REPORT = "Its random weights are unfit for a comparison: report this with your torch and torchvision versions."


@contextmanager
def _hooks(module: nn.Module, found: Conditioning, name: str) -> Iterator[None]:
    handles = []
    for path, part in module.named_modules():
        kind = type(part).__name__
        if kind in _LAST_LINEAR:
            last = _LAST_LINEAR[kind]
            hook = _normalise(part.get_submodule(last), f"{path}.{last}", found, name, channels=-1)
            handles.append(part.register_forward_hook(hook))
        elif isinstance(part, nn.Linear):
            handles.append(part.register_forward_hook(_normalise(part, path, found, name, channels=-1)))
        elif isinstance(part, nn.Conv2d):
            handles.append(part.register_forward_hook(_normalise(part, path, found, name, channels=1)))
        elif isinstance(part, nn.BatchNorm2d):
            handles.append(part.register_forward_pre_hook(_take_statistics(path, found)))
        if not any(part.children()):
            handles.append(part.register_forward_hook(_in_range(path, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _normalise(
    layer: nn.Module, path: str, found: Conditioning, name: str, channels: int
) -> Callable[[nn.Module, Any, Any], Any]:
    """Hook: scale and centre an output that is linear in ``layer``'s weight, and note what that means for the layer."""

    def hook(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        rest: tuple[Any, ...] = ()
        if isinstance(output, tuple):
            output, *rest_ = output
            rest = tuple(rest_)
        shape = [1] * output.dim()
        shape[channels] = -1
        bias = layer.bias if isinstance(layer.bias, torch.Tensor) else None
        values = output if bias is None else output - bias.view(shape)
        others = [axis for axis in range(values.dim()) if axis != channels % values.dim()]
        mean = values.mean(dim=others)
        deviation = values.var(dim=others, correction=0).mean().sqrt()
        if not torch.isfinite(deviation) or deviation == 0:
            raise WorkloadError(f"Layer '{path}' of '{name}' has the standard deviation {float(deviation)}.", _REPORT)
        scale = torch.exp2(torch.round(-torch.log2(deviation)))
        found[f"{path}.weight{_SCALE}"] = scale
        values = values * scale
        if bias is not None:
            # The random bias stays: channels that are centred exactly would hide a lost bias.
            centre = _rounded(bias - mean * scale)
            found[f"{path}.bias"] = centre
            values = values + centre.view(shape)
        return (values, *rest) if rest else values

    return hook


def _take_statistics(path: str, found: Conditioning) -> Callable[[nn.BatchNorm2d, Any], None]:
    """Hook before BatchNorm: make the running statistics those of the data that arrive, and calm weak channels."""

    def hook(norm: nn.BatchNorm2d, arguments: tuple[torch.Tensor, ...]) -> None:
        values = arguments[0]
        variance = values.var(dim=(0, 2, 3), correction=0)
        settled = {
            "running_mean": values.mean(dim=(0, 2, 3)),
            "running_var": variance,
            "weight": norm.weight * (variance / variance.mean()).sqrt().clamp(max=1),
        }
        for name, value in settled.items():
            tensor = getattr(norm, name)
            tensor.copy_(_rounded(value))
            found[f"{path}.{name}"] = tensor.clone()

    return hook


def _in_range(path: str, name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
        largest = output.abs().max() if isinstance(output, torch.Tensor) else torch.zeros(())
        if not largest <= MAX_ACTIVATION:
            raise WorkloadError(
                f"Layer '{path}' of '{name}' reaches {float(largest):.3g}, beyond {MAX_ACTIVATION:.0f}.", _REPORT
            )

    return hook


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """Round to eight bits of mantissa."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp(torch.round(mantissa * 2**_MANTISSA_BITS) / 2**_MANTISSA_BITS, exponent)
