"""How many independent samples a row of autocorrelated samples is worth, as far as its median is concerned.

An estimate of the autocorrelation from few samples is biased downwards and uncertain, and both make intervals too
narrow where it is strong. So its bias is corrected and a standard error is added: for an interval, to believe in too
much autocorrelation costs a little width, and to believe in too little costs the promise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

_Array = npt.NDArray[np.float64]

_ROUNDING: Final = 1e-13
# In standard deviations by the median absolute deviation, which is what Leys et al. (2013) recommend for it.
_FENCE: Final = 2.5
# Upper quartile of a standard normal, the median size of its deviations. scipy's median_abs_deviation would take longer
# than all else here together, and the stop rule waits for it.
_QUARTILE: Final = float(special.ndtri(0.75))
# Autocorrelation beyond this leaves less than one effective sample in twenty; an estimate of it is then noise itself.
_STRONGEST: Final = 0.95


def effective_count(values: _Array) -> float:
    """How many independent samples know as much of the median as these autocorrelated ones do; on the cautious side.

    The variance of the median goes with that of the share of samples below it, so what counts is the autocorrelation of
    the signs about it. That is not estimated from the signs themselves, which hold little information, but from the
    samples: by the arcsine law (Kedem 1980), the signs of a Gaussian AR(1) with the coefficient phi correlate with
    2 / pi * arcsin(phi**lag), and these add up to the variance's inflation. A lone spike is no part of that process: it
    is left out of the estimate, and it is a sample that is independent of its neighbours.

    The estimate is corrected to first order for the usual estimator's bias of -(1 + 4 phi) / n (Marriott and Pope 1954,
    Kendall 1954), a little more than Burg's has, and one standard error is added: Bartlett's (1946) 1 / sqrt(n),
    stretched by the correction.

    Args:
        values: samples in order, shape (n,), n >= 5.

    Returns:
        At least 1 and never more than the samples there are.
    """
    count = values.size
    scores, kept = _scores(values)
    both = kept[1:] & kept[:-1]
    pairs = int(np.count_nonzero(both))
    if pairs == 0:  # hardly any samples, and spikes between them: nothing is known
        return 1.0
    coefficient = _lag1(scores[:-1][both], scores[1:][both])
    if coefficient is None:
        return float(count)
    upper = coefficient + (1 + 4 * coefficient) / pairs + (1 + 4 / pairs) / np.sqrt(pairs)
    latent = min(max(upper, 0.0), _STRONGEST)
    lags = np.arange(1, count)
    excess = 2 * float(np.sum((1 - lags / count) * 2 / np.pi * np.arcsin(latent**lags)))
    return float(max(count / (1 + excess * pairs / (count - 1)), 1.0))


def _lag1(before: _Array, after: _Array) -> float | None:
    """Burg's (1975) lag-1 autocorrelation: within -1 and 1 whichever pairs are missing. None where nothing varies."""
    power = float(before @ before + after @ after)
    return 2 * float(before @ after) / power if power > 0 else None


def _scores(values: _Array) -> tuple[_Array, npt.NDArray[np.bool_]]:
    """Deviations from the centre, none far beyond the others; and which samples are no lone spikes.

    A spike stands off alone. Several in a row on one side are a disturbance that lasts, which is autocorrelation.
    """
    apart = values - np.median(values)
    # Differences of logarithms that are equal on paper differ in their last bit: those are no deviations.
    apart[np.abs(apart) <= _ROUNDING * np.max(np.abs(values))] = 0.0
    sizes = np.abs(apart)
    # With a coarse clock most samples may be equal, whose median deviation is zero; their mean deviation is not.
    scale = float(np.median(sizes)) / _QUARTILE or float(np.sqrt(np.pi / 2) * np.mean(sizes))
    if scale == 0:
        return apart, np.ones(values.size, dtype=np.bool_)
    scores = np.clip(apart / scale, -_FENCE, _FENCE)
    side = np.where(sizes > _FENCE * scale, np.sign(apart), 0.0)
    kept = side == 0
    together = (side[1:] == side[:-1]) & ~kept[1:]
    kept[1:] |= together
    kept[:-1] |= together
    return scores - np.mean(scores[kept]), kept
