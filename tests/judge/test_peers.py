"""Other tools' rules say what those tools say: hand-made samples on both sides of each threshold."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_ignores_the_unit_and_is_repeatable(name):
    base, head = samples(1e-3), samples(1.2e-3, seed=3)
    assert RULES[name](base, head) is RULES[name](base * 1e6, head * 1e6) is RULES[name](base, head) is REGRESSION


def test_independent_samples_of_equal_processes_trip_the_t_test_at_its_level():
    alarms = [peers.pyperf(*np.random.default_rng(s).normal(1, 0.01, (2, 50))) is not SAME for s in range(400)]
    assert 0.02 < np.mean(alarms) < 0.09
