"""Change points in the history of one case: between which two runs it became slower or faster, and by how much.

Works on the logarithms of the runs' medians. Spikes are left out, not smoothed over, so that none can move a step; the
noise's scale and its autocorrelation are read from differences, so that the steps that are looked for do not inflate
them; and ruptures finds the piecewise constant mean under a penalty that follows from the wanted rate of false alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special, stats

from trtgate.errors import BackendAbsentError, MeasurementError
from trtgate.judge.interval import Interval
from trtgate.policy.judge import TrendSettings

_Array = npt.NDArray[np.float64]

# A spike lies this many robust standard deviations off the medians of its neighbours (Hampel's usual 3 finds spikes in
# Gaussian noise of a thousand runs; 4 hardly does).
_SPIKE_SIGMAS: Final = 4.0
# Beyond it the effective number of runs is so small that no step could be told from wandering.
_STRONGEST_AUTOCORRELATION: Final = 0.8
# Standardised contrast below which the penalty cannot be reached by either a step or a plateau; ruptures need not look.
_PRESCREEN: Final = 0.75


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A lasting step in a history.

    Spikes tell nothing about a level. Where some stand right at a step, it is after ``before`` and not after ``after``,
    and it may be at any of the spikes between the two.

    Attributes:
        index: position of the first run after the step that is not a spike.
        before: label (commit) of the last run before it that is not a spike, None where runs carry none.
        after: label of the run at ``index``.
        ratio: time after over time before; above 1 is slower.
        p_value: of a step this large in noise like this history's, at this place.
        runs_after: runs from this step to the next one, or to the end, spikes included.
        whereabouts: first and last position of what may be the first run after the step, ``index`` among them: where
            the step lies is known only so well, and more runs may move it within these.
    """

    index: int
    before: str | None
    after: str | None
    ratio: Interval
    p_value: float
    runs_after: int
    whereabouts: tuple[int, int]


def change_points(
    medians: Sequence[float] | _Array, settings: TrendSettings, labels: Sequence[str | None] | None = None
) -> list[ChangePoint]:
    """Find lasting steps.

    Args:
        medians: one figure a run, oldest first, positive: seconds or bytes.
        settings: rates and limits; only the last `most_runs` are looked at.
        labels: one a run, such as its commit.

    Returns:
        The steps, oldest first; none where the history is too short to hold one.

    Raises:
        MeasurementError: a figure that is not positive and finite, or labels of another length.
        BackendAbsentError: ruptures is not installed.
    """
    values = np.asarray(medians, dtype=np.float64)
    if labels is not None and len(labels) != values.size:
        raise MeasurementError(f"{values.size} runs have {len(labels)} labels.", "Pass one label a run.")
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise MeasurementError("A run's figure is not a positive number.", "Leave failed runs out of the history.")
    skipped = max(values.size - settings.most_runs, 0)
    logs = np.log(values[skipped:])
    if logs.size < 2 * settings.min_runs:
        return []
    runs = np.flatnonzero(~spikes(logs, settings.min_runs))
    if runs.size < 2 * settings.min_runs:
        return []
    clean = logs[runs]
    noise = long_run_sd(clean)
    penalty = float(special.ndtri(settings.false_alarm_rate / (2 * clean.size)) ** 2)
    standard = (clean - np.median(clean)) / noise
    if _largest_contrast(standard, settings.min_runs) < _PRESCREEN * np.sqrt(penalty):
        return []
    found = _segment(standard, settings.min_runs, penalty)
    kept = _worth_reporting(clean, found, noise, settings)
    positions = [*(int(run) + skipped for run in runs), values.size]
    return [_describe(clean, kept, place, noise, positions, settings, labels) for place in range(1, len(kept) - 1)]


def spikes(values: _Array, min_runs: int) -> npt.NDArray[np.bool_]:
    """Which runs stand off what comes before and off what comes after, too few together to be a step.

    A run is compared with each side by itself: the run next to a step agrees with one of them. One median over both
    sides, as in Hampel's filter, takes such a run for a spike when a real spike tips its window. A side has two medians
    and a run has to stand off both: that of ``min_runs`` follows a short plateau, and that of ``2 * min_runs - 1`` is
    not tipped by ``min_runs - 1`` spikes. At the ends, where one side is missing, the outermost ``2 * min_runs - 1``
    runs have one median for it: ``min_runs`` new ones are a majority there, and one fewer is not.

    Args:
        values: logarithms, shape (n,), n at least ``2 * min_runs``.
        min_runs: smallest number of runs that make a step.
    """
    # Two standard errors are added: the scale of a dozen runs may come out at half of what it is.
    far = _SPIKE_SIGMAS * _sd_of_differences(values, 1) * (1 + 2 / np.sqrt(values.size))
    wide = 2 * min_runs - 1
    first, last = np.median(values[:wide]), np.median(values[-wide:])
    stands_off = np.ones(values.size, dtype=np.bool_)
    for width in (min_runs, wide):
        medians = np.median(sliding_window_view(values, width), axis=1)
        stands_off[width:-min_runs] &= np.abs(values[width:-min_runs] - medians[: -min_runs - 1]) > far
        stands_off[min_runs:-width] &= np.abs(values[min_runs:-width] - medians[min_runs + 1 :]) > far
    stands_off[:wide] &= np.abs(values[:wide] - first) > far
    stands_off[-wide:] &= np.abs(values[-wide:] - last) > far
    return stands_off


def long_run_sd(values: _Array) -> float:
    """Robust standard deviation that a mean over n runs has, times sqrt(n), were there no steps.

    For an AR(1) the variances of first and second differences stand as 1 to 1 + rho; that gives rho and, with it, the
    long-run variance. Never zero: histories that agree to the last digit still have the resolution of a float32.

    Args:
        values: logarithms, shape (n,).
    """
    first, second = _sd_of_differences(values, 1), _sd_of_differences(values, 2)
    # One standard error is added: an autocorrelation that is believed too small lets wandering pass for steps.
    rho = (second / first) ** 2 - 1 + 1 / np.sqrt(values.size)
    rho = float(np.clip(rho, 0.0, _STRONGEST_AUTOCORRELATION))
    # _sd_of_differences(values, 1) is sd * sqrt(1 - rho); the long-run sd is sd * sqrt((1 + rho) / (1 - rho)).
    return float(first * np.sqrt(1 + rho) / (1 - rho))


def _sd_of_differences(values: _Array, lag: int) -> float:
    spread = float(np.median(np.abs(values[lag:] - values[:-lag])) / _NORMAL_QUARTILE / np.sqrt(2))
    return max(spread, float(np.finfo(np.float32).eps))


_NORMAL_QUARTILE: Final = float(special.ndtri(0.75))


def _largest_contrast(values: _Array, shortest: int) -> float:
    """Largest standardised difference of means, of everything before and after a run and of neighbouring windows.

    The first finds steps, the second plateaus that come and go. Linear in the number of runs, so that quiet histories,
    which are most, cost next to nothing.
    """
    count = values.size
    sums = np.concatenate([[0.0], np.cumsum(values)])
    cut = np.arange(shortest, count - shortest + 1)
    left = sums[cut] - cut * sums[-1] / count
    largest = float(np.max(np.abs(left) * np.sqrt(count / (cut * (count - cut)))))
    width = shortest
    while 2 * width <= count:
        middle = sums[width : count - width + 1]
        difference = sums[2 * width :] - 2 * middle + sums[: count - 2 * width + 1]
        largest = max(largest, float(np.max(np.abs(difference)) / np.sqrt(2 * width)))
        width *= 2
    return float(largest)


def _segment(values: _Array, shortest: int, penalty: float) -> list[int]:
    """Boundaries of the optimal piecewise constant mean, 0 and the end included."""
    search: Any = _ruptures().KernelCPD(kernel="linear", min_size=shortest)
    return [0, *search.fit(values[:, None]).predict(pen=penalty)]


def _ruptures() -> Any:
    try:
        import ruptures
    except ImportError:
        raise BackendAbsentError(
            "The package 'ruptures', which finds change points, is not installed.",
            "Install it with: pip install 'trtgate[history]'.",
        ) from None
    return ruptures


def _worth_reporting(values: _Array, bounds: list[int], noise: float, settings: TrendSettings) -> list[int]:
    """Drop the least significant step until all are significant and large enough; its two sides become one."""
    kept = list(bounds)
    while len(kept) > 2:
        steps = [_step(values, kept, place, noise) for place in range(1, len(kept) - 1)]
        small = [abs(shift) < np.log1p(settings.min_change) for shift, _, _ in steps]
        p_values = [2 * special.stdtr(df, -abs(shift) / error) for shift, error, df in steps]
        worst = max(range(len(steps)), key=lambda place: (small[place], p_values[place]))
        if not small[worst] and p_values[worst] < settings.false_alarm_rate:
            break
        del kept[worst + 1]
    return kept


def _step(values: _Array, bounds: list[int], place: int, noise: float) -> tuple[float, float, int]:
    """Shift of the median at a boundary, its standard error and degrees of freedom."""
    before = values[bounds[place - 1] : bounds[place]]
    after = values[bounds[place] : bounds[place + 1]]
    # sqrt(pi / 2): the standard error of a median in units of the mean's.
    error = np.sqrt(np.pi / 2) * noise * np.sqrt(1 / before.size + 1 / after.size)
    return float(np.median(after) - np.median(before)), float(error), values.size - 2


def _describe(
    values: _Array,
    bounds: list[int],
    place: int,
    noise: float,
    positions: Sequence[int],
    settings: TrendSettings,
    labels: Sequence[str | None] | None,
) -> ChangePoint:
    shift, error, df = _step(values, bounds, place, noise)
    reach = float(stats.t.isf((1 - settings.confidence) / 2, df)) * error
    low, middle, high = np.exp([shift - reach, shift, shift + reach])
    last, index, end = positions[bounds[place] - 1], positions[bounds[place]], positions[bounds[place + 1]]
    return ChangePoint(
        index=index,
        before=labels[last] if labels else None,
        after=labels[index] if labels else None,
        ratio=Interval(float(middle), float(low), float(high), settings.confidence),
        p_value=float(2 * special.stdtr(df, -abs(shift) / error)),
        runs_after=end - index,
        whereabouts=_whereabouts(values, bounds, place, noise, positions, settings.confidence),
    )


def _whereabouts(
    values: _Array, bounds: list[int], place: int, noise: float, positions: Sequence[int], confidence: float
) -> tuple[int, int]:
    """Confidence set of a step's place: where it is not significantly less likely than where it was found.

    Inverts the likelihood ratio, whose limit has the distribution function ``(1 - exp(-x / 2)) ** 2`` (Hansen 2000,
    Sample splitting and threshold estimation, Econometrica 68, theorem 2).
    """
    start, found, end = bounds[place - 1], bounds[place], bounds[place + 1]
    part = values[start:end]
    before = np.arange(1, part.size)
    sums = np.cumsum(part)
    shift = sums[:-1] / before - (sums[-1] - sums[:-1]) / (part.size - before)
    gain = shift**2 * before * (part.size - before) / part.size / noise**2
    bearable = -2 * np.log(1 - np.sqrt(confidence))
    likely = np.append(np.flatnonzero(gain >= gain[found - start - 1] - bearable) + start + 1, found)
    return positions[int(likely.min())], positions[int(likely.max())]
