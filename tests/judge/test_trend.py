"""Steps are found where they are, spikes are not steps, and a quiet history costs next to nothing."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from trtgate.errors import BackendAbsentError, MeasurementError
from trtgate.judge import trend
from trtgate.judge.trend import change_points
from trtgate.policy import TrendSettings

SETTINGS = TrendSettings()


def history(count, seed=0, phi=0.0, sd=0.01):
    white = np.random.default_rng(seed).standard_normal(count + 50)
    return 1e-3 * np.exp(sd * signal.lfilter([1.0], [1.0, -phi], white)[50:] * np.sqrt(1 - phi**2))


def test_a_step_is_placed_between_two_commits_and_sized():
    values = history(120)
    values[80:] *= 1.05
    (change,) = change_points(values, SETTINGS, labels=[f"c{i}" for i in range(120)])
    assert (change.index, change.before, change.after, change.runs_after) == (80, "c79", "c80", 40)
    assert change.ratio.low < 1.05 < change.ratio.high
    assert change.ratio.low > 1.03
    assert change.p_value < 1e-6


def test_several_steps_up_and_down():
    values = history(300)
    values[100:] *= 1.1
    values[200:] /= 1.1
    assert [change.index for change in change_points(values, SETTINGS)] == [100, 200]


def test_the_newest_three_runs_can_be_a_step_and_two_cannot():
    values = history(100)
    two, three = values.copy(), values.copy()
    two[-2:] *= 1.3
    three[-3:] *= 1.3
    assert change_points(two, SETTINGS) == []
    assert [change.index for change in change_points(three, SETTINGS)] == [97]


@pytest.mark.parametrize("place", [0, 1, 2, 3, 50, 95, 96, 97, 98, 99])
@pytest.mark.parametrize("width", [1, 2])
def test_spikes_are_ignored_anywhere(place, width):
    values = history(100)
    values[place : place + width] *= 2
    assert change_points(values, SETTINGS) == []


def stepped_and_spiked(count, sd, width, height, seeds):
    """Every step that leaves three good runs on either side, with a spike at every place."""
    for seed in range(seeds):
        noise = 1e-3 * np.exp(sd * np.random.default_rng(seed).standard_normal(count))
        for step in range(3, count - 2):
            for place in range(count - width + 1):
                spiked = set(range(place, place + width))
                if min(len(set(range(step)) - spiked), len(set(range(step, count)) - spiked)) >= 3:
                    values = noise.copy()
                    values[step:] *= 1.2
                    values[place : place + width] *= height
                    yield values, step, spiked


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("height", [1.5, 0.7])
def test_a_spike_anywhere_moves_no_step_of_a_short_history(width, height):
    checked = 0
    for values, step, spiked in stepped_and_spiked(12, 0.002, width, height, seeds=4):
        (change,) = change_points(values, SETTINGS, labels=range(12))
        # A spike right at the step may belong to either side, and is left between the two runs that are named.
        assert change.before == max(set(range(step)) - spiked)
        assert change.after == change.index == min(set(range(step, 12)) - spiked)
        assert type(change.index) is type(change.runs_after) is int
        assert change.ratio.low < 1.2 < change.ratio.high
        checked += 1
    assert checked > 250


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("height", [1.5, 0.7])
def test_a_step_lies_between_the_runs_that_are_named_under_one_percent_of_noise(width, height):
    exact = []
    for values, step, spiked in stepped_and_spiked(30, 0.01, width, height, seeds=2):
        (change,) = change_points(values, SETTINGS, labels=range(30))
        assert change.before < step <= change.after
        exact.append(set(range(change.before + 1, change.after)) <= spiked)
    assert len(exact) > 1400
    assert np.mean(exact) > 0.99


@pytest.mark.parametrize("count", range(6, 12))
def test_the_shortest_histories_that_hold_a_step(count):
    values = history(count, sd=0.002)
    values[count // 2 :] *= 1.2
    found = [change.index for change in change_points(values, SETTINGS)]
    assert found in ([], [count // 2])  # how much noise there is may be too uncertain to say


def test_small_steps_are_true_but_not_reported():
    values = history(200, sd=0.0001)
    values[100:] *= 1.003
    assert change_points(values, SETTINGS) == []
    assert len(change_points(values, TrendSettings(min_change=0.001))) == 1


@pytest.mark.parametrize(("phi", "most"), [(0.0, 1), (0.3, 4)])
def test_noise_alone_hardly_ever_looks_like_a_step(phi, most):
    assert sum(bool(change_points(history(100, seed, phi), SETTINGS)) for seed in range(150)) <= most


def test_three_percent_of_spikes_cost_about_one_false_alarm_in_a_hundred_histories():
    found = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        values = 1e-3 * np.exp(0.01 * random.standard_normal(100))
        values[random.random(100) < 0.03] *= 1.3
        found += bool(change_points(values, SETTINGS))
    assert found <= 9


def test_more_nights_move_a_step_within_its_whereabouts():
    known = total = held = 0
    for seed in range(15):
        values = history(130, seed)
        values[60:] *= 1.03
        first = None
        for runs in range(66, 131, 4):
            for change in change_points(values[:runs], SETTINGS):
                low, high = change.whereabouts
                assert low <= change.index <= high
                total, held = total + 1, held + (low <= 60 <= high)
                first = first or change
                old_low, old_high = first.whereabouts
                known += old_low - 1 <= change.index <= old_high or low - 1 <= first.index <= high
    assert total > 150
    assert held / total > 0.95  # where the step truly is
    assert known == total  # nobody is told twice of one step


def test_the_place_of_a_large_step_is_certain():
    values = history(100)
    values[40:] *= 1.2
    values[39] *= 2  # a spike, which may belong to either side
    (change,) = change_points(values, SETTINGS)
    assert change.whereabouts == (40, 40)


@given(st.floats(1e-6, 1e6), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_the_unit_does_not_matter_and_time_runs_both_ways(scale, seed):
    values = history(60, seed)
    values[30:] *= 1.2
    (plain,) = change_points(values, SETTINGS)
    (scaled,) = change_points(values * scale, SETTINGS)
    assert scaled.index == plain.index
    assert scaled.ratio.estimate == pytest.approx(plain.ratio.estimate)
    (mirrored,) = change_points(values[::-1], SETTINGS)
    assert mirrored.index == 60 - plain.index
    assert mirrored.ratio.estimate == pytest.approx(1 / plain.ratio.estimate)


def test_old_history_is_left_out_and_indices_still_count_from_the_start():
    values = history(1500)
    values[100:] *= 1.2
    values[1400:] *= 1.2
    assert [change.index for change in change_points(values, SETTINGS)] == [1400]


def test_histories_without_any_noise():
    assert change_points(np.full(50, 24e6), SETTINGS) == []
    stepped = np.repeat([24e6, 25e6], 25)
    assert [change.index for change in change_points(stepped, SETTINGS)] == [25]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_short_histories_have_no_steps(count):
    assert change_points(history(count), SETTINGS) == []


def test_figures_that_are_not_positive_and_labels_of_another_length_are_refused():
    with pytest.raises(MeasurementError, match="not a positive number"):
        change_points([1.0, float("nan")] * 5, SETTINGS)
    with pytest.raises(MeasurementError, match="10 runs have 9 labels"):
        change_points(history(10), SETTINGS, labels=["c"] * 9)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ruptures", None)
    values = history(60)
    values[30:] *= 1.2
    with pytest.raises(BackendAbsentError, match="trtgate\\[history\\]"):
        change_points(values, SETTINGS)


def test_a_thousand_runs_take_a_few_milliseconds():
    histories = [history(1000, seed) for seed in range(10)]
    for values in histories[::2]:
        values[500:] *= 1.03
    change_points(histories[0], SETTINGS)
    start = time.process_time()
    for values in histories:
        change_points(values, SETTINGS)
    # A million records are a thousand such histories, and they have ten seconds.
    assert (time.process_time() - start) / 10 < 0.010


def test_the_prescreen_loses_nothing_that_the_search_would_report(monkeypatch):
    suites = [history(200, seed) for seed in range(60)]
    for place, values in enumerate(suites):
        start, width = 20 + 2 * place, 4 + place
        values[start : start + width] *= 1 + 0.0015 * place
    screened = [change_points(values, SETTINGS) for values in suites]
    monkeypatch.setattr(trend, "_PRESCREEN", 0.0)
    assert [change_points(values, SETTINGS) for values in suites] == screened
    assert any(screened)
