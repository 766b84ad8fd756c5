"""Seeded pictures that look like photographs to a network: smooth, with detail at every scale, and normalised.

White noise is a poor input: convolutions average it away, so that all pictures look alike after a few layers. The
amplitude of natural images falls with spatial frequency as 1/f (Field, J. Opt. Soc. Am. A 4, 1987); so does this.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from trtgate.workloads import weights

SIZE = 224
# torchvision's transforms for ImageNet: mean and standard deviation of red, green and blue in 0..1.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_GRIDS = (3, 7, 14, 28, 56, 112, 224)
_BATCHES_KEPT = 8  # every way to build a model is asked with the same few batches; eight of 8 pictures are 39 MB


def batch(count: int, *seed: object) -> torch.Tensor:
    """Pictures of shape (count, 3, 224, 224), float32, normalised as ImageNet's are; a function of the arguments alone.

    The first pictures of a larger batch are those of a smaller one with the same seed.
    """
    return _batch(count, *seed).clone()


@lru_cache(maxsize=_BATCHES_KEPT)
def _batch(count: int, *seed: object) -> torch.Tensor:
    levels = torch.arange(256, dtype=torch.float64) / 255
    # A table of 3 x 256 values and not arithmetic on pixels: every machine yields the same bits.
    table = torch.stack([((levels - m) / d).float() for m, d in zip(_MEAN, _DEVIATION, strict=True)])
    pixels = torch.from_numpy(np.stack([_picture(weights.generator("picture", *seed, i)) for i in range(count)]))
    channel = torch.arange(3).view(1, 3, 1, 1)
    return table[channel, pixels.long()]


def _picture(random: np.random.Generator) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """One picture of shape (3, 224, 224): octaves of noise, largely shared by the colours, in 0..255."""
    steepness = random.uniform(0.8, 1.2)
    total = torch.zeros(3, SIZE, SIZE, dtype=torch.float64)
    for grid in _GRIDS:
        shared, coloured = random.standard_normal((1, grid, grid)), random.standard_normal((3, grid, grid))
        noise = torch.from_numpy(shared + 0.5 * coloured)[None]
        smooth = functional.interpolate(noise, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0]
        total += smooth / grid**steepness
    total /= total.std()
    contrast, brightness = random.uniform(0.15, 0.3), random.uniform(0.3, 0.65, (3, 1, 1))
    return ((total * contrast + torch.from_numpy(brightness)).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
