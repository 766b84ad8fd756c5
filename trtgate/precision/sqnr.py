"""Signal-to-quantisation-noise ratio: the usual figure of how much a quantised model's outputs differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


# Of float64 itself; equal outputs would be infinitely far above noise, which JSON cannot say.
_MOST_DB = 300.0


def sqnr_of_batches(
    reference: Sequence[Sequence[torch.Tensor]], candidate: Sequence[Sequence[torch.Tensor]], index: int
) -> float:
    """`sqnr_db` of one output over all batches together, between -300 and 300 dB.

    Args:
        reference: by batch and output, what should be computed.
        candidate: the same of what was computed.
        index: of the output.
    """
    import torch

    right, found = (torch.cat([batch[index].flatten() for batch in side]) for side in (reference, candidate))
    return max(-_MOST_DB, min(_MOST_DB, sqnr_db(right, found)))


def sqnr_db(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """Ratio of the reference's power to the power of the difference, in decibels.

    ``10 log10(sum(reference**2) / sum((reference - candidate)**2))``, computed in float64. 20 dB is an error of 10% of
    the signal's norm, 40 dB one of 1%.

    Args:
        reference: what should be computed.
        candidate: what was computed; same shape.

    Returns:
        Infinity where the two are equal, minus infinity where the candidate is not finite or the reference is zero
        and the candidate is not.

    Raises:
        ValueError: the shapes differ, or the reference is not finite.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: {tuple(reference.shape)} and {tuple(candidate.shape)}")
    signal, other = reference.detach().cpu().double(), candidate.detach().cpu().double()
    if not bool(signal.isfinite().all()):
        raise ValueError("the reference is not finite")
    if not bool(other.isfinite().all()):
        return -math.inf
    power, noise = float((signal**2).sum()), float(((signal - other) ** 2).sum())
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(power / noise) if power > 0.0 else -math.inf
