"""Simulated error rates of the judging code: every number in docs/statistics.md comes from here.

    python -m benchmarks.simulate_gate            # about 5 minutes on one core
    python -m benchmarks.simulate_gate --quick    # about 30 seconds, coarser

Prints markdown; ``--json PATH`` writes the same figures. The seeds are fixed: the same release prints the same numbers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import signal

from trtgate.judge.environment import environment_valid
from trtgate.judge.resampling import Draw, Rates, Scenario, run
from trtgate.judge.stats import paired_ratio
from trtgate.judge.trend import change_points
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings

_Array = npt.NDArray[np.float64]
_Table = tuple[str, list[dict[str, Any]]]

_SUITE: Final = 30
# Standard deviations of a graphed row's log ratio between pairs of processes: the ends and the middle of what ten pairs
# of five models showed on an H100 (0.27 - 0.68%).
_QUIET, _MIDDLE, _NOISY = 0.0027, 0.0045, 0.0068
_AT_THE_MARGIN: Final = "all exactly at the margin, sd 0.68%"
_UNGRAPHED = 0.015, 0.048  # likewise of ungraphed rows, the quietest and the noisiest


def _normal(sd: float, effect: float = 0.0) -> Draw:
    return lambda count, rng: np.log1p(effect) + rng.normal(0, sd, count)


def _heavy(sd: float, effect: float = 0.0) -> Draw:
    """Student's t with 3 degrees of freedom, scaled to this standard deviation."""
    return lambda count, rng: np.log1p(effect) + sd / np.sqrt(3) * rng.standard_t(3, count)


def _bistable(sd: float, effect: float = 0.0) -> Draw:
    """Every fourth pair lands in another state, 1.5% off in either direction, beside the ordinary noise."""

    def draw(count: int, rng: np.random.Generator) -> _Array:
        state = rng.choice([-0.015, 0.0, 0.015], size=count, p=[0.125, 0.75, 0.125])
        return np.log1p(effect) + state + rng.normal(0, sd, count)

    return draw


def _built(build_sd: float, pairs_a_build: int, sd: float = _QUIET) -> Draw:
    """Engine builds of either side differ by luck; so many pairs share one."""

    def draw(count: int, rng: np.random.Generator) -> _Array:
        luck = rng.normal(0, build_sd * np.sqrt(2), -(-count // pairs_a_build))
        return np.repeat(luck, pairs_a_build)[:count] + rng.normal(0, sd, count)

    return draw


def _odd(share: float, size: float, sd: float = _MIDDLE) -> Draw:
    """A share of the pairs is so far off, in either direction, beside the ordinary noise."""

    def draw(count: int, rng: np.random.Generator) -> _Array:
        return rng.normal(0, sd, count) + (rng.random(count) < share) * rng.choice([-size, size], count)

    return draw


def _left_skewed(sd: float, effect: float) -> Draw:
    """Most pairs a little above their mean and few far below it: an exponential distribution, turned round."""
    return lambda count, rng: np.log1p(effect) + sd * (1 - rng.exponential(1, count))


def _rare_fast_state(share: float, size: float, effect: float, sd: float = _QUIET) -> Draw:
    """A share of the pairs lands in a state that is so much faster; the mean over all pairs is the effect."""

    def draw(count: int, rng: np.random.Generator) -> _Array:
        state = size * (share - (rng.random(count) < share))
        return np.log1p(effect) + state + rng.normal(0, sd, count)

    return draw


def gate_rates(settings: JudgeSettings, suites: int) -> _Table:
    """False failures and power of whole suites of 30 cases."""
    spread = [_QUIET, _MIDDLE, _NOISY] * (_SUITE // 3)
    margin = settings.margin.device
    scenarios = [
        Scenario("A/A, sd 0.27-0.68%", tuple(map(_normal, spread))),
        Scenario("A/A, heavy tails", tuple(map(_heavy, spread))),
        Scenario("A/A, bistable pairs", tuple(_bistable(sd) for sd in spread)),
        Scenario("A/A, ungraphed (sd 1.5-4.8%)", tuple(map(_normal, np.linspace(*_UNGRAPHED, _SUITE)))),
        Scenario("A/A, 1% of pairs 5% off", (_odd(0.01, 0.05),) * _SUITE),
        Scenario("A/A, 2% of pairs 10% off", (_odd(0.02, 0.10),) * _SUITE),
        Scenario(_AT_THE_MARGIN, (_normal(_NOISY, margin),) * _SUITE),
        Scenario("all exactly at the margin, left-skewed", (_left_skewed(_NOISY, margin),) * _SUITE),
        Scenario("all exactly at the margin, 5% of pairs 5% faster", (_rare_fast_state(0.05, 0.05, margin),) * _SUITE),
    ]
    for effect in (0.02, 0.03, 0.05):
        for sd in (_QUIET, _MIDDLE, _NOISY):
            cases = (_normal(sd, effect), *map(_normal, spread[1:]))
            scenarios.append(Scenario(f"+{effect:.0%} in 1 of 30, sd {sd:.2%}", cases, regressed=1))
        everywhere = tuple(_normal(sd, effect) for sd in spread)
        scenarios.append(Scenario(f"+{effect:.0%} in 30 of 30, sd 0.27-0.68%", everywhere, regressed=_SUITE))
        scenarios.append(
            Scenario(f"+{effect:.0%} in 30 of 30, all sd 0.68%", (_normal(_NOISY, effect),) * _SUITE, regressed=_SUITE)
        )
    scenarios.append(
        Scenario("+3% in 1 of 30, heavy tails", (_heavy(_NOISY, 0.03), *map(_heavy, spread[1:])), regressed=1)
    )
    scenarios += [
        Scenario(f"A/A, build sd {sd:.2%}, {shared} pairs a build", (_built(sd, shared),) * _SUITE)
        for sd in (0.0075, 0.01)
        for shared in (1, 4)
    ]
    # A rate of 1% is not told from 2% by a thousand suites.
    rows = [
        _row(run(scenario, settings, suites * (4 if scenario.name == _AT_THE_MARGIN else 1), seed))
        for seed, scenario in enumerate(scenarios)
    ]
    return f"Gate: {suites} suites of {_SUITE} cases each", rows


def _row(rates: Rates) -> dict[str, Any]:
    unchanged = rates.unchanged_same is not None
    return {
        "scenario": rates.name,
        "false SLOWER": f"{rates.false_slower}/{rates.comparisons}" if unchanged else None,
        "suites failed falsely": rates.suite_false_failure if unchanged else None,
        "at most (95%)": rates.suite_false_failure_bound if unchanged else None,
        "suites that pass": rates.suites_passed if unchanged and rates.found is None else None,
        "found": rates.found,
        "found at first look": rates.found_at_first_look,
        "passed though slower": rates.passed_though_slower,
        "unchanged: SAME": rates.unchanged_same,
        "unchanged: INCONCLUSIVE": rates.unchanged_inconclusive,
        "suites extended": rates.extended,
    }


def _noise(rng: np.random.Generator, count: int, phi: float, spikes: float, sd: float = 0.01) -> _Array:
    """AR(1) noise with exponential spikes of 30% on average."""
    white = rng.standard_normal(count + 100)
    wander = signal.lfilter([1.0], [1.0, -phi], white)[100:] * np.sqrt(1 - phi**2)
    return sd * wander + (rng.random(count) < spikes) * rng.exponential(0.3, count)


def coverage(repeats: int) -> _Table:
    """Coverage and width of the within-process interval."""
    rng = np.random.default_rng(11)
    row: dict[str, Any]
    rows = []
    for rounds in (20, 50, 200):
        for phi in (0.0, 0.3, 0.6, 0.8):
            for spikes in (0.0, 0.05):
                row = {"rounds": rounds, "AR(1) phi": phi, "spikes": spikes}
                rows.append(row | _covered(repeats, partial(_noise, rng, rounds, phi, spikes)))
    for rounds in (20, 50, 200):
        row = {"rounds": rounds, "AR(1) phi": "0.9, half of it white", "spikes": 0.0}
        rows.append(row | _covered(repeats, partial(_half_white, rng, rounds)))
    return f"paired_ratio: coverage over {repeats} simulated processes, noise 1% a side", rows


def _half_white(rng: np.random.Generator, count: int) -> _Array:
    """A slow wander under as much white noise: neighbours hardly correlate, and samples far apart still do."""
    return np.sqrt(0.5) * (_noise(rng, count, 0.9, 0.0) + _noise(rng, count, 0.0, 0.0))


def _covered(repeats: int, side: Callable[[], _Array]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for confidence in (0.95, 0.99):
        intervals = [paired_ratio(np.exp(side()), 2 * np.exp(side()), confidence) for _ in range(repeats)]
        found[f"coverage of {confidence:.0%}"] = np.mean([i.low <= 2 <= i.high for i in intervals])
    return found | {"half width of 99%": np.median([interval.half_width for interval in intervals])}


def arm(settings: JudgeSettings, repeats: int) -> _Table:
    """How often the A/A arm calls a machine invalid."""
    rng = np.random.default_rng(12)
    spread = np.array([_QUIET, _MIDDLE, _NOISY] * (_SUITE // 3))
    ungraphed = np.linspace(*_UNGRAPHED, _SUITE)
    rows = []
    for name, bias, sds, graphed in (
        ("quiet machine", 0.0, spread, True),
        ("biased by 0.5% everywhere", 0.005, spread, True),
        ("biased by 1% everywhere", 0.01, spread, True),
        ("biased by 2% everywhere", 0.02, spread, True),
        ("ten times the noise", 0.0, 10 * spread, True),
        ("ten times the noise, 4 cases", 0.0, 10 * spread[:4], True),
        ("a single noisy case (sd 3%)", 0.0, np.array([0.03]), True),
        ("ungraphed (sd 1.5-4.8%)", 0.0, ungraphed, False),
        ("ungraphed (sd 3%), 8 cases", 0.0, np.full(8, 0.03), False),
    ):
        verdicts = []
        for _ in range(repeats):
            pairs = {f"case{i}": list(bias + rng.normal(0, sd, settings.aa_pairs)) for i, sd in enumerate(sds)}
            verdicts.append(environment_valid(pairs, settings, steady=pairs if graphed else ()).verdict)
        invalid = np.mean([verdict is Verdict.INVALID for verdict in verdicts])
        rows.append({"machine": name, "cases": len(sds), "INVALID": invalid})
    return f"A/A arm: {repeats} suites, {settings.aa_pairs} pairs a case", rows


def trend(settings: JudgeSettings, repeats: int) -> _Table:
    """False alarms, detections and cost of change points."""
    rng = np.random.default_rng(13)
    rows = []
    for runs in (30, 100, 1000):
        for phi in (0.0, 0.3, 0.5):
            for spikes in (0.0, 0.03):
                quiet = [np.exp(_noise(rng, runs, phi, spikes)) for _ in range(repeats)]
                start = time.process_time()
                alarms = [bool(change_points(values, settings.trend)) for values in quiet]
                cost_ms = (time.process_time() - start) / repeats * 1e3
                row = {"runs": runs, "AR(1) phi": phi, "spikes": spikes, "false alarms": np.mean(alarms)}
                for step in (0.03, 0.05):
                    row[f"+{step:.0%} found"] = np.mean(
                        [_found(np.exp(_noise(rng, runs, phi, spikes)), step, settings) for _ in range(repeats)]
                    )
                rows.append(row | {"CPU ms a history": round(cost_ms, 2)})
    return f"Trend: {repeats} histories each, noise 1%, the step lies 10 runs before the end", rows


def _found(values: _Array, step: float, settings: JudgeSettings) -> bool:
    start = values.size - 10
    values[start:] *= 1 + step
    return any(abs(change.index - start) <= 1 for change in change_points(values, settings.trend))


def markdown(tables: Iterable[_Table]) -> str:
    """Tables for docs/statistics.md."""
    parts = []
    for title, rows in tables:
        heads = list(rows[0])
        lines = [f"### {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(_cell(row[head]) for head in heads) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> None:
    """Run the simulations and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(argv)
    settings, scale = JudgeSettings(), 10 if options.quick else 1
    parts: tuple[Callable[[], _Table], ...] = (
        lambda: gate_rates(settings, 1000 // scale),
        lambda: arm(settings, 1000 // scale),
        lambda: coverage(1000 // scale),
        lambda: trend(settings, 400 // scale),
    )
    tables = [part() for part in parts]
    print(markdown(tables))
    if options.json:
        options.json.write_text(json.dumps(dict(tables), indent=1, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
