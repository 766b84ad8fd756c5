"""Other tools' rules say what those tools say: hand-made samples on both sides of each threshold."""

import numpy as np
import pytest
from scipy import stats

from trtgate.judge import peers
from trtgate.judge.peers import RULES, PeerVerdict

REGRESSION, IMPROVEMENT, SAME, AMBIGUOUS = PeerVerdict


def samples(median, sd=0.002, count=100, seed=0):
    values = np.random.default_rng(seed).standard_normal(count)
    return median * (1 + sd * (values - np.median(values)))


@pytest.mark.parametrize(
    ("rule", "ratio", "verdict"),
    [
        (peers.pytest_benchmark_median, 1.049, SAME),
        (peers.pytest_benchmark_median, 1.051, REGRESSION),
        (peers.pytest_benchmark_median, 0.5, SAME),
        (peers.pytest_benchmark_mean, 1.09, SAME),
        (peers.pytest_benchmark_mean, 1.11, REGRESSION),
        (peers.pyperf, 1.0, SAME),
        (peers.pyperf, 1.002, REGRESSION),
        (peers.pyperf, 0.998, IMPROVEMENT),
        (peers.google_benchmark, 1.0, SAME),
        (peers.google_benchmark, 1.002, REGRESSION),
        (peers.google_benchmark, 0.998, IMPROVEMENT),
        (peers.criterion, 1.005, SAME),
        (peers.criterion, 1.02, REGRESSION),
        (peers.criterion, 0.98, IMPROVEMENT),
        (peers.asv, 1.09, SAME),
        (peers.asv, 1.11, REGRESSION),
        (peers.asv, 0.89, IMPROVEMENT),
        (peers.nvbench_robust, 1.0, SAME),
        (peers.nvbench_robust, 1.02, REGRESSION),
        (peers.nvbench_robust, 0.98, IMPROVEMENT),
        (peers.nvbench_robust, 1.006, AMBIGUOUS),
    ],
)
def test_thresholds(rule, ratio, verdict):
    assert rule(samples(1e-3), samples(1e-3 * ratio)) is verdict


def test_too_few_samples_for_a_rank_test_fall_back_to_intervals():
    assert peers.asv(samples(1.0, count=4), samples(1.3, count=4, seed=1)) in PeerVerdict
    assert peers.asv(samples(1.0, count=20), samples(1.3, count=20, seed=1)) is REGRESSION


def test_six_samples_a_side_are_enough_for_asvs_rank_test_and_five_are_not():
    """1 / binom(12, 6) is 0.0011; 1 / binom(10, 5) is 0.004, and the 99% interval of five samples has no ends."""
    for count, verdict in ((5, SAME), (6, SAME), (7, REGRESSION)):
        # Every sample of the head is slower: two-sided p is 2 / binom(2 n, n), 0.0022 with six.
        assert peers.asv(samples(1.0, count=count), samples(1.3, count=count, seed=1)) is verdict


def test_asv_breaks_ties_in_the_least_significant_way():
    apart, base = np.repeat([2.0, 1.0], [16, 4]), np.full(20, 1.0)
    assert peers._asv_p(apart, apart) == pytest.approx(1, abs=0.2)
    # 80 ties: taken for losses U is 320, taken for wins 400; the former is nearer to the middle, 200.
    expected = stats.mannwhitneyu(np.repeat([2.0, 0.5], [16, 4]), base + np.arange(20) * 1e-9, method="exact").pvalue
    assert peers._asv_p(apart, base) == pytest.approx(expected)
    many = np.repeat([2.0, 1.0], [80, 20]), np.full(100, 1.0)
    z = (8000 - 5000) / np.sqrt(100 * 100 * 201 / 12)
    assert peers._asv_p(*many) == pytest.approx(2 * stats.norm.sf(z))


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_ignores_the_unit_and_is_repeatable(name):
    base, head = samples(1e-3), samples(1.2e-3, seed=3)
    assert RULES[name](base, head) is RULES[name](base * 1e6, head * 1e6) is RULES[name](base, head) is REGRESSION


def test_independent_samples_of_equal_processes_trip_the_t_test_at_its_level():
    alarms = [peers.pyperf(*np.random.default_rng(s).normal(1, 0.01, (2, 50))) is not SAME for s in range(400)]
    assert 0.02 < np.mean(alarms) < 0.09
