from __future__ import annotations

import collections
import logging
import math
import random

import numpy as np
import pytest

from trtgate.errors import MeasurementError
from trtgate.measure.timing.rounds import Certainty, take_turns, warm_up
from trtgate.policy import MeasureSettings

SHORT = MeasureSettings(min_rounds=20, max_rounds=60, block_rounds=10, seconds=1e6, max_seconds=1e6)


class Bench:
    """Participants whose samples are scripted, on a clock that their samples advance."""

    def __init__(self, *throttled):
        self.now_s = 0.0
        self.calls = []
        self.pauses_s = []
        self.looks = 0
        self.throttled = list(throttled)  # one entry a block: reasons, or ()

    def clock(self):
        return self.now_s

    def pause(self, seconds):
        self.pauses_s.append(seconds)

    def sample(self, name, value):
        def take():
            self.calls.append(name)
            seconds = value(len(self.calls)) if callable(value) else value
            self.now_s += seconds if math.isfinite(seconds) else 0
            return seconds

        return take

    def look(self):
        """Only looks that follow samples report, as a real GPU would."""
        self.looks += 1
        if not self.calls or self.calls[-1] == "looked":
            return ()
        self.calls.append("looked")
        return self.throttled.pop(0) if self.throttled else ()


def unsure(_):
    return Certainty.FAIR


def run(bench, samples, settings=SHORT, judge=unsure, seed=0):
    return take_turns(samples, settings, bench, judge, random.Random(seed), bench.clock, bench.pause)


def orders(bench, width):
    names = [name for name in bench.calls if name != "looked"]
    return [tuple(names[i : i + width]) for i in range(0, len(names), width)]


def test_everyone_is_sampled_once_a_round_in_an_order_that_is_drawn_anew():
    bench = Bench()
    settings = MeasureSettings(min_rounds=20, max_rounds=600, seconds=1e6, max_seconds=1e6)
    run(bench, {name: bench.sample(name, 1e-3) for name in "abc"}, settings)
    rounds = orders(bench, 3)
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    counts = collections.Counter(rounds)
    assert len(counts) == 6
    # Uniform over 6 orders: 100 each, standard deviation 9.1; 5 of them either way.
    assert all(abs(count - 100) < 46 for count in counts.values())


def test_the_order_is_a_function_of_the_seed():
    def order(seed):
        bench = Bench()
        run(bench, {name: bench.sample(name, 1e-3) for name in "abc"}, seed=seed)
        return orders(bench, 3)

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_samples_of_one_round_stay_paired_by_index():
    """A drift that doubles over the run cancels in the ratio of each pair."""
    bench = Bench()

    def drifting(scale):
        return lambda calls: scale * (1 + (calls // 2) / 60)

    rounds = run(bench, {"a": bench.sample("a", drifting(1.0)), "b": bench.sample("b", drifting(3.0))})
    ratio = np.divide(rounds.samples_s["b"], rounds.samples_s["a"])
    assert len(ratio) == 60
    assert np.ptp(rounds.samples_s["a"]) > 0.9
    assert np.all(np.abs(ratio - 3) < 0.06)


def test_a_throttled_block_is_thrown_away_aloud_and_taken_again(caplog):
    bench = Bench((), ("hw_thermal_slowdown",), ("hw_thermal_slowdown", "sw_thermal_slowdown"))
    blocks = iter(range(100))
    current = {"block": -1}

    def by_block(calls):
        if calls == 1 or bench.calls[-2] == "looked":
            current["block"] = next(blocks)
        return float(current["block"] + 1)

    with caplog.at_level(logging.WARNING):
        rounds = run(bench, {"a": bench.sample("a", by_block)})
    assert rounds.discarded_blocks == 2
    assert rounds.kept_blocks == 6
    assert set(rounds.samples_s["a"]) == {1.0, 4.0, 5.0, 6.0, 7.0, 8.0}  # blocks 2 and 3 are gone
    assert len(rounds.samples_s["a"]) == 60
    assert [record.getMessage() for record in caplog.records if "throttled" in record.getMessage()] == [
        "The GPU was throttled (hw_thermal_slowdown): a block of samples is thrown away and taken again.",
        "The GPU was throttled (hw_thermal_slowdown, sw_thermal_slowdown): "
        "a block of samples is thrown away and taken again.",
    ]
    assert bench.pauses_s == [0.05, 0.1]


def test_too_many_throttled_blocks_fail_the_measurement():
    bench = Bench(*[("hw_slowdown",)] * 5)
    settings = MeasureSettings(max_discarded_blocks=3)
    with pytest.raises(MeasurementError, match=r"throttled \(hw_slowdown\) in 4 blocks, more than the 3"):
        run(bench, {"a": bench.sample("a", 1e-3)}, settings)


def test_it_stops_when_settled_but_not_before_the_fewest_rounds():
    asked = []

    def settled(taken):
        asked.append(len(taken["a"]))
        return Certainty.SETTLED

    bench = Bench()
    assert len(run(bench, {"a": bench.sample("a", 1e-3)}, judge=settled).samples_s["a"]) == 20
    assert asked == [20]


def test_it_stops_at_the_most_rounds_even_inside_a_block():
    bench = Bench()
    settings = MeasureSettings(min_rounds=20, max_rounds=45, block_rounds=10, seconds=1e6, max_seconds=1e6)
    assert len(run(bench, {"a": bench.sample("a", 1e-3)}, settings).samples_s["a"]) == 45


def test_the_budget_ends_it_after_the_fewest_rounds_and_thrown_away_blocks_do_not_use_it_up():
    bench = Bench(("hw_slowdown",), ("hw_slowdown",))
    settings = MeasureSettings(min_rounds=20, max_rounds=200, block_rounds=10, seconds=2.5)
    rounds = run(bench, {"a": bench.sample("a", 0.1)}, settings)  # a second a block
    assert len(rounds.samples_s["a"]) == 30
    slow = Bench()
    assert len(run(slow, {"a": slow.sample("a", 0.7)}, settings).samples_s["a"]) == 20


def test_the_budget_grows_with_those_who_take_turns():
    bench = Bench()
    settings = MeasureSettings(min_rounds=20, max_rounds=200, block_rounds=10, seconds=2.25)
    rounds = run(bench, {name: bench.sample(name, 0.05) for name in "ab"}, settings)  # a second a block
    assert len(rounds.samples_s["a"]) == 50


def test_what_is_unclear_is_worth_patience_and_no_more():
    settings = MeasureSettings(min_rounds=20, max_rounds=200, block_rounds=10, seconds=2.5, patience_seconds=6.5)
    clear_after = {"rounds": 40}

    def judge(taken):
        return Certainty.UNCLEAR if len(taken["a"]) < clear_after["rounds"] else Certainty.FAIR

    bench = Bench()
    assert len(run(bench, {"a": bench.sample("a", 0.1)}, settings, judge).samples_s["a"]) == 40  # a second a block
    clear_after["rounds"] = 1000
    bench = Bench()
    assert len(run(bench, {"a": bench.sample("a", 0.1)}, settings, judge).samples_s["a"]) == 70


def test_a_very_slow_model_gets_fewer_rounds_than_the_minimum_but_five():
    bench = Bench()
    settings = MeasureSettings(min_rounds=20, block_rounds=2, max_seconds=20)
    assert len(run(bench, {"a": bench.sample("a", 60.0)}, settings).samples_s["a"]) == 6


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0.0, -1e-6])
def test_a_sample_that_is_no_time_is_refused_by_name(seconds):
    bench = Bench()
    with pytest.raises(MeasurementError, match=r"A sample of 'b' took .* s, which is not a time"):
        run(bench, {"a": bench.sample("a", 1e-3), "b": bench.sample("b", seconds)})
    with pytest.raises(MeasurementError, match="'b'"):
        warm_up({"a": bench.sample("a", 1e-3), "b": bench.sample("b", seconds)}, SHORT, bench.clock)


def test_warm_up_goes_on_while_medians_fall():
    """1 ms falls to 0.5 ms with a time constant of 100 samples: ends when a window's fall is within 2%."""
    bench = Bench()
    settings = MeasureSettings(warmup_window_rounds=10, warmup_window_seconds=1e-9, warmup_seconds=10)
    taken = []

    def cooling(calls):
        taken.append(0.5e-3 * (1 + math.exp(-calls / 100)))
        return taken[-1]

    assert warm_up({"a": bench.sample("a", cooling)}, settings, bench.clock)
    assert taken[-1] < 0.5e-3 * 1.3
    assert 100 < len(taken) < 400


def test_warm_up_waits_for_the_slowest_participant():
    bench = Bench()
    settings = MeasureSettings(warmup_window_rounds=5, warmup_window_seconds=1e-9, warmup_seconds=1e3)
    calls = collections.Counter()

    def falling(_):
        calls["b"] += 1
        return 1e-3 * max(1.0, 10 - calls["b"] / 10)

    assert warm_up({"a": bench.sample("a", 1e-3), "b": bench.sample("b", falling)}, settings, bench.clock)
    assert calls["b"] > 80
    assert bench.calls.count("a") == calls["b"]


def test_warm_up_gives_up_when_time_is_over_and_says_so():
    bench = Bench()
    settings = MeasureSettings(warmup_seconds=0.5, warmup_window_seconds=1e-9)
    growing = bench.sample("a", lambda calls: 1e-3 * 1.1**calls)
    assert not warm_up({"a": growing}, settings, bench.clock)
    assert 0.5 <= bench.now_s < 0.6


def test_warm_up_lasts_two_windows_however_fast_the_samples_are():
    bench = Bench()
    assert warm_up({"a": bench.sample("a", 1e-5)}, SHORT, bench.clock)
    assert bench.now_s >= 2 * SHORT.warmup_window_seconds


def test_noise_without_drift_counts_as_steady():
    bench = Bench()
    rng = np.random.default_rng(5)
    settings = MeasureSettings(warmup_seconds=10.0)
    noisy = bench.sample("a", lambda _: 1e-3 * math.exp(0.3 * rng.standard_normal()))
    assert warm_up({"a": noisy}, settings, bench.clock)
    assert bench.now_s < 0.5
