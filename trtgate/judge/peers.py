"""The rules by which other tools call a regression, restated from their documentation and sources for comparison.

Each takes the samples of two processes (seconds, one dimension) and says what the tool would say with its defaults.
They are here to be measured beside our own rule (benchmarks/compare_rules.py), not to gate anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Samples = npt.NDArray[np.float64]

# nvbench's default preset.
_NVBENCH_GAP: Final = 0.005
_NVBENCH_CENTRES: Final = 0.005
_NVBENCH_OVERLAP: Final = 0.5
_NVBENCH_DISPERSION: Final = 0.02
_ASV_LEVEL: Final = 0.002
_ASV_EXACT: Final = 20


class PeerVerdict(StrEnum):
    """What a tool says of the head."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    SAME = "same"
    AMBIGUOUS = "ambiguous"


Rule = Callable[[Samples, Samples], PeerVerdict]


def pytest_benchmark_median(base: Samples, head: Samples) -> PeerVerdict:
    """``--benchmark-compare-fail=median:5%``: one scalar, no test (ionelmc/pytest-benchmark 47d66c8, utils.py)."""
    return _beyond(float(np.median(head) / np.median(base)), 0.05)


def pytest_benchmark_mean(base: Samples, head: Samples) -> PeerVerdict:
    """``--benchmark-compare-fail=mean:10%`` (ionelmc/pytest-benchmark 47d66c8, utils.py)."""
    return _beyond(float(np.mean(head) / np.mean(base)), 0.10)


def pyperf(base: Samples, head: Samples) -> PeerVerdict:
    """Two-sided Student's t test with pooled variance at 95% (psf/pyperf ab7fd04, _compare.py and _utils.py)."""
    if stats.ttest_ind(head, base, equal_var=True).pvalue >= 0.05:
        return PeerVerdict.SAME
    return _by_sign(float(np.mean(head) - np.mean(base)))


def google_benchmark(base: Samples, head: Samples) -> PeerVerdict:
    """Two-sided Mann-Whitney U test at 0.05 (google/benchmark 267a1115, tools/compare.py; 9 repetitions advised)."""
    if stats.mannwhitneyu(head, base, alternative="two-sided").pvalue >= 0.05:
        return PeerVerdict.SAME
    return _by_sign(float(np.median(head) - np.median(base)))


def criterion(base: Samples, head: Samples, resamples: int = 2_000, seed: int = 0) -> PeerVerdict:
    """Bootstrapped t test at 0.05, and the 95% interval of the mean's change beyond 1% noise.

    bheisler/criterion.rs 567405d, src/analysis/compare.rs and src/report.rs. Criterion draws 100,000 resamples;
    2,000 leave an error of 0.005 in a p value of 0.05, and a comparison of many pairs can wait for them.
    """
    rng = np.random.default_rng(seed)
    observed = float(stats.ttest_ind(head, base, equal_var=False).statistic)
    pooled = np.concatenate([base, head])
    mixed = rng.choice(pooled, size=(resamples, pooled.size))
    null = stats.ttest_ind(mixed[:, base.size :], mixed[:, : base.size], axis=1, equal_var=False).statistic
    tail = float(np.mean(null < observed))
    if 2 * min(tail, 1 - tail) >= 0.05:
        return PeerVerdict.SAME
    means = [rng.choice(side, size=(resamples, side.size)).mean(axis=1) for side in (head, base)]
    low, high = np.quantile(means[0] / means[1] - 1, [0.025, 0.975])
    if low > 0.01:
        return PeerVerdict.REGRESSION
    return PeerVerdict.IMPROVEMENT if high < -0.01 else PeerVerdict.SAME


def asv(base: Samples, head: Samples) -> PeerVerdict:
    """Mann-Whitney U test at 0.002, and a ratio of medians beyond ``--factor`` 1.1.

    airspeed-velocity/asv 7032df70, asv/commands/compare.py and asv/statistics.py: the test is used where its least
    possible one-sided p value is below that level, ties are broken in the least significant way, and it is exact for up
    to 20 samples; with fewer samples the 99% intervals of the medians must not overlap.
    """
    ratio = float(np.median(head) / np.median(base))
    if 1 / 1.1 <= ratio <= 1.1:
        return PeerVerdict.SAME
    if 1 / special.comb(base.size + head.size, min(base.size, head.size)) < _ASV_LEVEL:
        different = _asv_p(base, head) < _ASV_LEVEL
    else:
        (low_b, high_b), (low_h, high_h) = (stats.quantile_test(s).confidence_interval(0.99) for s in (base, head))
        # Too few samples for an interval have one without ends, which overlaps everything.
        different = bool(low_h > high_b or high_h < low_b)
    return _by_sign(ratio - 1) if different else PeerVerdict.SAME


def _asv_p(base: Samples, head: Samples) -> float:
    m, n = base.size, head.size
    above, ties = int((base[:, None] > head).sum()), int((base[:, None] == head).sum())
    # Of all the ways to break the ties, the one that brings U closest to its middle.
    u = max(min(broken, m * n - broken) for broken in (above, above + ties))
    if above <= m * n // 2 <= above + ties:
        u = m * n // 2
    if max(m, n) > _ASV_EXACT:
        z = (u - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12)
        return float(2 * stats.norm.cdf(z))
    # Samples without ties that have this U: the exact distribution needs nothing else of them.
    wins = np.clip(u - n * np.arange(m), 0, n)
    return float(stats.mannwhitneyu(wins + 0.4 * np.arange(m) / m, np.arange(n) + 0.5, method="exact").pvalue)


def nvbench_robust(base: Samples, head: Samples) -> PeerVerdict:
    """Intervals from the minimum to the third quartile, disjoint by at least 0.5%.

    NVIDIA/nvbench 66212f1, docs/nvbench_compare_robust.md. Its second condition, the same gap in cycles, needs clock
    samples and is left out, which makes it find more here; SAME follows its summary rule (close centres, overlapping
    intervals, little dispersion), and everything else is ambiguous.
    """
    (low_b, mid_b, high_b), (low_h, mid_h, high_h) = (np.quantile(s, [0.0, 0.5, 0.75]) for s in (base, head))
    if (low_h - high_b) / high_b >= _NVBENCH_GAP:
        return PeerVerdict.REGRESSION
    if (low_b - high_h) / high_h >= _NVBENCH_GAP:
        return PeerVerdict.IMPROVEMENT
    spread = max(float(stats.iqr(base) / mid_b), float(stats.iqr(head) / mid_h))
    shortest = min(high_b - low_b, high_h - low_h)
    overlap = (min(high_b, high_h) - max(low_b, low_h)) / shortest if shortest > 0 else float(low_b == low_h)
    close = abs(mid_h - mid_b) / min(mid_h, mid_b) <= _NVBENCH_CENTRES
    same = close and overlap >= _NVBENCH_OVERLAP and spread <= _NVBENCH_DISPERSION
    return PeerVerdict.SAME if same else PeerVerdict.AMBIGUOUS


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "pytest-benchmark median:5%": pytest_benchmark_median,
        "pytest-benchmark mean:10%": pytest_benchmark_mean,
        "pyperf t test": pyperf,
        "Google Benchmark U test": google_benchmark,
        "Criterion": criterion,
        "asv": asv,
        "nvbench robust": nvbench_robust,
    }
)


def _beyond(ratio: float, threshold: float) -> PeerVerdict:
    """A one-sided threshold: these rules never speak of wins."""
    return PeerVerdict.REGRESSION if ratio > 1 + threshold else PeerVerdict.SAME


def _by_sign(difference: float) -> PeerVerdict:
    return PeerVerdict.REGRESSION if difference > 0 else PeerVerdict.IMPROVEMENT
