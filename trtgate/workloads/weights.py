"""Seeded weights that are the same bits on every machine, and the digest that says whether they are.

torch's random numbers go through vectorised arithmetic that differs between CPUs and releases. Here uniform weights are
made of NumPy's PCG64 bits, whose stream NumPy guarantees (NEP 19), by operations that IEEE 754 rounds in one way only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)

# Gains and shifts differ between channels, as trained ones do; all ones and zeros would hide a mix-up of channels.
_NORM_GAIN = (0.75, 1.25)
_SHIFT = (-0.25, 0.25)
# Class tokens, position embeddings, relative position biases: large enough to matter beside inputs of unit variance.
_TOKEN = (-0.5, 0.5)
# Branches of ConvNeXt start at 1e-6 in torchvision, which makes the whole branch vanish from the output.
_LAYER_SCALE = (0.5, 1.0)


def uniform(shape: tuple[int, ...], low: float, high: float, *seed: object) -> torch.Tensor:
    """Uniform float32 values that are a function of the arguments alone, on every machine.

    Args:
        shape: of the result.
        low: smallest value.
        high: bound from above.
        seed: anything whose text is stable; together they name the stream.
    """
    values = generator(*seed).random(shape, dtype=np.float32)
    values *= np.float32(high - low)
    values += np.float32(low)
    return torch.from_numpy(values)


def generator(*seed: object) -> np.random.Generator:
    """A NumPy generator whose stream is named by the text of ``seed``."""
    name = "/".join(map(str, seed)).encode()
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name).digest()[:16], "little")))


@torch.no_grad()
def fill(module: nn.Module, seed: int) -> None:
    """Overwrite every parameter with seeded random values, and normalisation statistics with those of unit noise.

    Weights of linear and convolution layers have variance 1 / fan_in, so that a layer keeps the variance of inputs
    that are centred and independent (LeCun et al., Efficient BackProp, 1998).
    """
    for path, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            low, high = _range(owner, name, parameter)
            parameter.copy_(uniform(tuple(parameter.shape), low, high, seed, path, name))
        if isinstance(owner, nn.modules.batchnorm._BatchNorm):
            owner.reset_running_stats()


def _range(owner: nn.Module, name: str, parameter: torch.Tensor) -> tuple[float, float]:
    if isinstance(owner, _NORMS):
        return _NORM_GAIN if name == "weight" else _SHIFT
    if name.endswith("bias"):
        return _SHIFT
    if name == "layer_scale":
        return _LAYER_SCALE
    if isinstance(owner, nn.Embedding):
        return -math.sqrt(3), math.sqrt(3)
    if name.endswith("weight"):
        bound = math.sqrt(3 / parameter[0].numel())
        return -bound, bound
    return _TOKEN


def digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes, datatypes and bytes of all parameters and persistent buffers: 64 hex digits."""
    return digest_of_tensors(sorted(module.state_dict().items()))


def digest_of_tensors(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """The same of tensors with their names."""
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        total.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def frozen(module: nn.Module) -> nn.Module:
    """The same module in eval mode, its parameters without gradients."""
    return module.eval().requires_grad_(False)
