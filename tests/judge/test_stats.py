"""Intervals hold what they promise, and change with their input as they must."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal, stats

from trtgate.errors import MeasurementError
from trtgate.judge import verdict
from trtgate.judge.autocorrelation import effective_count
from trtgate.judge.stats import (
    PairEstimate,
    excess_spread,
    median_interval,
    paired_ratio,
    trimmed_interval,
)

TIMES = st.floats(1e-6, 1.0)
ROUNDS = st.integers(5, 60)


@st.composite
def rounds(draw):
    count = draw(ROUNDS)
    return draw(arrays(float, count, elements=TIMES)), draw(arrays(float, count, elements=TIMES))


@given(rounds(), st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_a_speedup_does_not_depend_on_the_unit(pair, scale):
    candidate, baseline = pair
    plain, scaled = paired_ratio(candidate, baseline, 0.99), paired_ratio(candidate * scale, baseline * scale, 0.99)
    assert (scaled.estimate, scaled.low, scaled.high) == pytest.approx(
        (plain.estimate, plain.low, plain.high), rel=1e-6
    )


@given(rounds())
@settings(max_examples=60, deadline=None)
def test_swapping_the_sides_gives_the_reciprocal(pair):
    forth, back = paired_ratio(*pair, 0.95), paired_ratio(*reversed(pair), 0.95).reciprocal
    assert (back.estimate, back.low, back.high) == pytest.approx((forth.estimate, forth.low, forth.high), rel=1e-6)


# Powers of two, which scale without rounding: with so few and so equal samples a last bit decides what repeats.
@given(rounds(), st.sampled_from([2.0, 4.0, 8.0]))
@settings(max_examples=60, deadline=None)
def test_a_slower_baseline_gives_a_proportionally_larger_speedup(pair, factor):
    candidate, baseline = pair
    before, after = paired_ratio(candidate, baseline, 0.95), paired_ratio(candidate, baseline * factor, 0.95)
    assert after.low == pytest.approx(before.low * factor, rel=1e-6)
    assert after.estimate == pytest.approx(before.estimate * factor, rel=1e-6)


@given(rounds(), st.floats(0.6, 0.98))
@settings(max_examples=60, deadline=None)
def test_more_confidence_never_narrows_and_always_holds_the_estimate(pair, confidence):
    narrow, wide = paired_ratio(*pair, confidence), paired_ratio(*pair, confidence + 0.01)
    assert wide.low <= narrow.low * (1 + 1e-12)
    assert wide.high >= narrow.high * (1 - 1e-12)
    assert narrow.low <= narrow.estimate * (1 + 1e-12)
    assert narrow.high >= narrow.estimate * (1 - 1e-12)


def noise(rng, count, phi, spikes):
    wander = signal.lfilter([1.0], [1.0, -phi], rng.standard_normal(count + 50))[50:] * np.sqrt(1 - phi**2)
    return 0.01 * wander + (rng.random(count) < spikes) * rng.exponential(0.3, count)


@pytest.mark.parametrize("count", [20, 50, 200])
@pytest.mark.parametrize("spikes", [0.0, 0.05])
@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6, 0.8])
def test_the_interval_covers_the_truth_on_autocorrelated_noise_with_spikes(count, phi, spikes):
    rng = np.random.default_rng(count)
    repeats = 1500 if phi == 0.8 else 400  # the hardest, where a miss is to be seen
    hits = {0.95: 0, 0.99: 0}
    for _ in range(repeats):
        candidate, baseline = (np.exp(noise(rng, count, phi, spikes)) for _ in range(2))
        for confidence in hits:
            interval = paired_ratio(candidate, 2 * baseline, confidence)
            hits[confidence] += interval.low <= 2 <= interval.high
    # Fails only if the true coverage is below these (with an error of 0.1%). Twenty rounds of phi 0.8 have 98% of 99%.
    for confidence, least in ((0.95, 0.945), (0.99, 0.98)):
        assert hits[confidence] >= stats.binom.ppf(0.001, repeats, least)


@pytest.mark.parametrize(("count", "most"), [(20, 0.036), (50, 0.0105), (200, 0.0044)])
def test_weak_autocorrelation_is_not_paid_for_with_wide_intervals(count, most):
    rng = np.random.default_rng(4)
    pairs = (np.exp([noise(rng, count, 0.3, 0.0) for _ in range(2)]) for _ in range(200))
    assert np.median([paired_ratio(*pair, 0.99).half_width for pair in pairs]) < most


def test_lone_spikes_neither_hide_autocorrelation_nor_look_like_it_and_a_lasting_disturbance_does():
    rng = np.random.default_rng(5)
    lone, lasting = np.zeros(200), np.zeros(200)
    lone[5::20] = lasting[40:50] = 1.0
    counts = {
        (phi, what): np.median([effective_count(noise(rng, 200, phi, 0.0) + disturbance) for _ in range(50)])
        for phi in (0.0, 0.8)
        for what, disturbance in (("calm", 0.0), ("lone", lone), ("lasting", lasting))
    }
    assert counts[0.0, "lone"] == pytest.approx(counts[0.0, "calm"], rel=0.1)
    assert counts[0.8, "lone"] == pytest.approx(counts[0.8, "calm"], rel=0.2)
    assert counts[0.0, "lasting"] < counts[0.0, "calm"] * 0.75


def test_samples_of_which_most_are_equal_still_show_their_autocorrelation():
    ticks = np.zeros(100)
    ticks[30:50] = 1.0
    scattered = np.zeros(100)
    scattered[::5] = 1.0
    assert effective_count(ticks) < 20
    assert effective_count(scattered) > 60


def test_samples_with_spikes_all_between_them_count_as_one():
    assert effective_count(np.array([0.0, 10.0, 0.1, 10.0, -0.1])) == 1


def test_spikes_do_not_widen_the_interval_of_few_strongly_autocorrelated_rounds_to_their_own_size():
    rng = np.random.default_rng(6)
    widths = [paired_ratio(*np.exp([noise(rng, 20, 0.8, 0.05) for _ in range(2)]), 0.99).half_width for _ in range(200)]
    assert np.median(widths) < 0.1  # a third of a spike


def test_an_independent_interval_that_ignored_autocorrelation_would_not_cover():
    """The guard of the test above: without the effective sample size it would fail."""
    rng = np.random.default_rng(1)
    counts = [effective_count(noise(rng, 200, 0.6, 0.0)) for _ in range(50)]
    assert 30 < np.median(counts) < 90
    assert np.median([effective_count(noise(rng, 200, 0.0, 0.0)) for _ in range(50)]) > 140


def test_drift_that_both_sides_share_cancels():
    drift = np.linspace(1.0, 2.0, 100)
    rng = np.random.default_rng(0)
    interval = paired_ratio(drift * np.exp(rng.normal(0, 0.001, 100)), 3 * drift, 0.99)
    assert interval.estimate == pytest.approx(3, rel=1e-3)
    assert interval.half_width < 2e-3


def test_the_stop_rule_is_fast_and_repeats_itself():
    rng = np.random.default_rng(0)
    candidate, baseline = np.exp(rng.normal(0, 0.01, (2, 200)))
    start = time.perf_counter()
    found = {paired_ratio(candidate, baseline, 0.99) for _ in range(20)}
    assert (time.perf_counter() - start) / 20 < 0.02
    assert len(found) == 1


def test_a_median_interval_holds_order_statistics():
    interval = median_interval(np.arange(101.0)[np.random.default_rng(0).permutation(101)], 0.95)
    assert interval.estimate == 50
    # The exact binomial interval of 101 independent samples runs from the 41st to the 61st.
    assert interval.low == pytest.approx(40, abs=3)
    assert interval.high == pytest.approx(60, abs=3)


def test_constant_samples_have_no_width():
    assert median_interval([2.0] * 10, 0.99).half_width == 0


@pytest.mark.parametrize(
    ("candidate", "baseline", "words"),
    [
        ([1.0] * 5, [1.0] * 6, "5 rounds and the baseline 6"),
        ([1.0] * 4, [1.0] * 4, "at least 5"),
        ([1.0] * 4 + [0.0], [1.0] * 5, "0 seconds"),
        ([1.0] * 4 + [float("nan")], [1.0] * 5, "not finite"),
    ],
)
def test_samples_that_cannot_be_judged_are_refused(candidate, baseline, words):
    with pytest.raises(MeasurementError, match=words):
        paired_ratio(candidate, baseline, 0.99)


RATIOS = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=20)


@given(RATIOS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_pairs_agree_with_scipy_and_their_order_does_not_matter(ratios, random):
    estimate = PairEstimate.of(ratios, 1e-9)
    shuffled = random.sample(ratios, len(ratios))
    assert PairEstimate.of(shuffled, 1e-9).mean == pytest.approx(estimate.mean, abs=1e-12)
    if np.std(ratios) > 1e-6:
        expected = stats.ttest_1samp(ratios, 0.01, alternative="greater")
        assert estimate.p_above(0.01) == pytest.approx(expected.pvalue, rel=1e-6)
        low, high = stats.ttest_1samp(ratios, 0.0).confidence_interval(0.99)
        interval = estimate.interval(0.99)
        assert (interval.low, interval.high) == pytest.approx((np.exp(low), np.exp(high)))


def test_pairs_that_agree_by_luck_still_have_the_least_spread():
    assert PairEstimate.of([0.02] * 8, 0.001).sd == 0.001


def test_the_resolvable_effect_is_found_as_often_as_it_says():
    rng = np.random.default_rng(2)
    effect = PairEstimate.of(rng.normal(0, 0.0068, 4000), 1e-3).resolvable(12, 0.01, 0.008, 0.95)
    found = [
        PairEstimate.of(np.log1p(effect) + rng.normal(0, 0.0068, 12), 1e-3).p_above(np.log1p(0.01)) < 0.008
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(0.95, abs=0.02)
    assert 0.015 < effect < 0.025


@pytest.mark.parametrize("ratios", [[0.1], [], [0.1, float("nan")]])
def test_too_few_pairs_are_refused(ratios):
    with pytest.raises(MeasurementError):
        PairEstimate.of(ratios, 1e-3)


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.0012, "+0.12%"), (1.031, "+3.1%"), (0.9, "-10.0%"), (10.9, "+990.0%"), (1234.5, "x1.23e+03")]
)
def test_a_ratio_is_spelt_so_that_people_can_read_it(ratio, text):
    assert verdict.percent(ratio) == text


def test_a_spread_is_told_where_it_is_beyond_the_limit():
    calm, torn = np.linspace(0.9, 1.1, 101), np.linspace(0.5, 1.5, 101)
    assert excess_spread(calm, 0.25) is None
    assert excess_spread(torn, 0.25) == pytest.approx(0.5)
    assert excess_spread(torn, 0.5) is None  # at the limit is not beyond it
    spiked = np.append(calm, [50.0] * 20)
    assert excess_spread(spiked, 0.25) is None  # a few spikes leave the middle half where it was
    assert excess_spread([0.0, 0.0, 0.0, 1.0, 1.0], 0.25) == float("inf")
    with pytest.raises(MeasurementError):
        excess_spread([1.0, 2.0], 0.25)


def test_equal_ratios_of_unequal_times_are_ties_whatever_the_last_bit_says():
    candidate = np.array([1.0, 0.25, *[0.125] * 7])
    baseline = np.array([0.5, 1.0, *[0.5] * 7])
    plain, doubled = paired_ratio(candidate, baseline, 0.95), paired_ratio(candidate, 2 * baseline, 0.95)
    assert doubled.low == pytest.approx(2 * plain.low)
    assert doubled.high == pytest.approx(2 * plain.high)


def test_a_trimmed_interval_is_yuens_and_never_narrower_than_the_least_spread_allows():
    ratios = np.random.default_rng(3).normal(0.004, 0.01, 20)
    found, cut = trimmed_interval(ratios, 0.001, 0.99)
    ordered = np.sort(ratios)
    winsorised = np.clip(ratios, ordered[2], ordered[-3])
    reach = stats.t.ppf(0.995, 15) * winsorised.std(ddof=1) / (0.8 * np.sqrt(20))
    assert cut == 2
    middle = stats.trim_mean(ratios, 0.1)
    assert np.log([found.low, found.estimate, found.high]) == pytest.approx([middle - reach, middle, middle + reach])
    equal, _ = trimmed_interval([0.0] * 20, 0.001, 0.99)
    assert np.log(equal.high) == pytest.approx(stats.t.ppf(0.995, 15) * 0.001 / np.sqrt(20))


@given(st.lists(st.floats(-0.1, 0.1), min_size=20, max_size=20), st.floats(0.1, 10))
def test_two_wild_pairs_at_either_end_change_nothing_of_a_trimmed_interval(ratios, wild):
    ordered = sorted(ratios)
    wilder = [*ordered[:-2], ordered[-2] + wild, ordered[-1] + wild]
    assert trimmed_interval(wilder, 0.001, 0.99) == trimmed_interval(ordered, 0.001, 0.99)
    flipped, _ = trimmed_interval([-ratio for ratio in ratios], 0.001, 0.99)
    assert flipped.low == pytest.approx(1 / trimmed_interval(ratios, 0.001, 0.99)[0].high)
