"""Estimates with confidence intervals: medians of one process, and means over pairs of processes.

Samples of one process are autocorrelated and have spikes, so their intervals come from order statistics at an effective
sample size. They say nothing of another process: between processes only the pairs count, one figure a pair.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from trtgate.errors import MeasurementError
from trtgate.judge.autocorrelation import effective_count
from trtgate.judge.interval import Interval

_FEWEST = 5
_TRIMMED = 0.1  # of the pairs, at either end: two of twenty
# Share of the samples between the median and the outermost order statistics that are trusted: spikes lie beyond.
_INNER = 0.4


def median_interval(samples: Sequence[float] | npt.NDArray[np.float64], confidence: float) -> Interval:
    """Interval of the median of autocorrelated samples.

    Order statistics (a Woodruff interval): the share of samples below the true median is 1/2, and its standard error
    follows from `effective_count`, less one for the centre that the same samples gave. Where that needs quantiles in
    the outermost tenth at either end, which hold the spikes if not nothing at all, the distance of the last quantile
    inside is stretched in proportion, as Siddiqui (1960) and Bloch and Gastwirth (1968) estimate a median's standard
    error, with Student's t since the scale is then an estimate too.

    Args:
        samples: at least 5, in the order in which they were taken, finite.
        confidence: such as 0.99.

    Raises:
        MeasurementError: too few samples, or one that is not finite.
    """
    values = _checked(samples, "samples")
    count = values.size
    ordered = np.sort(values)
    median = float(np.median(ordered))
    error = 0.5 / np.sqrt(max(effective_count(values) - 1.0, 0.5))
    reach = -float(special.ndtri((1 - confidence) / 2)) * error
    inner = min(reach, _INNER)
    # The i-th of n ordered samples, counted from zero, stands at (i + 1/2) / n.
    places = np.array([0.5 - inner, 0.5 + inner]) * count - 0.5
    low, high = np.interp(places, np.arange(count), ordered)
    stretch = _t_quantile(confidence, count - 1) * error / _INNER if reach > _INNER else 1.0
    return Interval(
        median, float(median - stretch * (median - low)), float(median + stretch * (high - median)), confidence
    )


def paired_ratio(
    candidate_s: Sequence[float] | npt.NDArray[np.float64],
    baseline_s: Sequence[float] | npt.NDArray[np.float64],
    confidence: float,
) -> Interval:
    """Speedup of a candidate over a baseline that took turns with it: 2.0 means twice as fast.

    The median over the rounds of ``baseline / candidate``, with `median_interval` on the logarithms: what slows down a
    whole round cancels, spikes count as one sample each, and swapping the sides gives the reciprocal exactly.

    Args:
        candidate_s: seconds an inference, one a round.
        baseline_s: the same rounds' seconds of the baseline, paired by index.
        confidence: such as 0.99.

    Raises:
        MeasurementError: different lengths, fewer than 5 rounds, or a time that is not positive and finite.
    """
    candidate, baseline = _checked(candidate_s, "candidate's samples"), _checked(baseline_s, "baseline's samples")
    if candidate.size != baseline.size:
        raise MeasurementError(
            f"The candidate has {candidate.size} rounds and the baseline {baseline.size}.",
            "Pass samples that were taken in the same rounds.",
        )
    if min(candidate.min(), baseline.min()) <= 0:
        raise MeasurementError(
            f"A sample is {min(candidate.min(), baseline.min()):g} seconds.", "Times are positive: look at the timer."
        )
    log = median_interval(np.log(baseline) - np.log(candidate), confidence)
    return Interval(float(np.exp(log.estimate)), float(np.exp(log.low)), float(np.exp(log.high)), confidence)


def excess_spread(samples: Sequence[float] | npt.NDArray[np.float64], limit: float) -> float | None:
    """How far apart samples lie whose median does not stand for them: something else used the machine meanwhile.

    Args:
        samples: at least 5 times, finite, in any order.
        limit: largest interquartile range, relative to the median, that is still ordinary.

    Returns:
        Interquartile range over median where it is above the limit, else None.

    Raises:
        MeasurementError: too few samples, or one that is not finite.
    """
    low, median, high = np.quantile(_checked(samples, "samples"), [0.25, 0.5, 0.75])
    if high - low <= limit * median:
        return None
    return float((high - low) / median) if median > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class PairEstimate:
    """Mean log ratio over pairs of processes; Student's t with one figure a pair.

    Attributes:
        count: number of pairs.
        mean: mean of log(head / base); positive is slower.
        sd: standard deviation between pairs, not below the floor that it was made with.
    """

    count: int
    mean: float
    sd: float

    @classmethod
    def of(cls, log_ratios: Sequence[float] | npt.NDArray[np.float64], least_sd: float) -> Self:
        """Summarise pairs.

        Args:
            log_ratios: log(head / base), one a pair of fresh processes, at least 2.
            least_sd: floor of the standard deviation, since few pairs may agree by luck or by a coarse clock.

        Raises:
            MeasurementError: fewer than 2 pairs, or one that is not finite.
        """
        values = np.asarray(log_ratios, dtype=np.float64)
        if values.size < 2 or not np.all(np.isfinite(values)):
            raise MeasurementError(
                f"{values.size} pairs of processes, {np.count_nonzero(~np.isfinite(values))} of them not finite.",
                "Judge at least 2 pairs with finite ratios.",
            )
        return cls(values.size, float(values.mean()), max(float(values.std(ddof=1)), least_sd))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean."""
        return self.sd / float(np.sqrt(self.count))

    def p_above(self, bound: float) -> float:
        """One-sided p value of the hypothesis that the true log ratio is at most ``bound``."""
        return float(special.stdtr(self.count - 1, (bound - self.mean) / self.standard_error))

    def p_below(self, bound: float) -> float:
        """One-sided p value of the hypothesis that the true log ratio is at least ``bound``."""
        return float(special.stdtr(self.count - 1, (self.mean - bound) / self.standard_error))

    def interval(self, confidence: float) -> Interval:
        """Two-sided interval of the ratio head / base; above 1 is slower."""
        reach = _t_quantile(confidence, self.count - 1) * self.standard_error
        low, high = np.exp([self.mean - reach, self.mean + reach])
        return Interval(float(np.exp(self.mean)), float(low), float(high), confidence)

    def resolvable(self, pairs: int, margin: float, level: float, power: float) -> float:
        """Smallest slowdown, as a fraction, that this many pairs of this spread find with this power.

        Args:
            pairs: pairs that will be judged together.
            margin: as a fraction.
            level: one-sided error rate of the test.
            power: such as 0.95.
        """
        shift = _detectable_shift(pairs - 1, level, power) * self.sd / np.sqrt(pairs)
        return float(np.expm1(np.log1p(margin) + shift))


def trimmed_interval(
    log_ratios: Sequence[float] | npt.NDArray[np.float64], least_sd: float, confidence: float
) -> tuple[Interval, int]:
    """Two-sided interval of the ratio head / base from the mean without the outermost tenth of the pairs at either end.

    Yuen's one-sample t from winsorised deviations (Tukey and McLaughlin 1963): a few odd pairs neither move nor widen
    it. It speaks of the typical pair; where pairs are not symmetric, their mean is another.

    Args:
        log_ratios: log(head / base), one a pair of fresh processes, at least 2.
        least_sd: floor of the standard deviation.
        confidence: such as 0.99.

    Returns:
        The interval, and how many pairs were cut at either end: none of fewer than 10.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    cut = int(_TRIMMED * values.size)
    low, high = stats.mstats.trimmed_mean_ci(values, (_TRIMMED, _TRIMMED), alpha=1 - confidence)
    middle = (low + high) / 2
    least = _t_quantile(confidence, values.size - 2 * cut - 1) * least_sd / float(np.sqrt(values.size))
    reach = max((high - low) / 2, least)
    low, estimate, high = np.exp([middle - reach, middle, middle + reach])
    return Interval(float(estimate), float(low), float(high), confidence), cut


@functools.lru_cache(maxsize=4096)
def _detectable_shift(df: int, level: float, power: float) -> float:
    """Noncentrality at which a one-sided t test reaches a power, in standard errors."""
    critical = float(stats.t.isf(level, df))
    return float(optimize.brentq(lambda shift: stats.nct.sf(critical, df, shift) - power, 0.0, critical * 4 + 20))


def _t_quantile(confidence: float, df: float) -> float:
    return -float(special.stdtrit(df, (1 - confidence) / 2))


def _checked(samples: Sequence[float] | npt.NDArray[np.float64], what: str) -> npt.NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or values.size < _FEWEST:
        raise MeasurementError(f"The {what} have the shape {values.shape}.", f"Take at least {_FEWEST} in one row.")
    if not np.all(np.isfinite(values)):
        raise MeasurementError(f"One of the {what} is not finite.", "Look at the measurement that made it.")
    return values
