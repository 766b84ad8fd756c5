"""Error rates of the gate, from recorded pairs: suites are drawn from them and judged as a pull request would be.

A drawn suite is a fair stand-in for a real one because the pair of processes is the unit of replication: pairs were
taken from fresh processes and carry nothing over from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from trtgate.judge.sequential import NeedMore, Sequential
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings

_Array = npt.NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], _Array]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of suite that is drawn again and again.

    Attributes:
        name: for the table.
        cases: one drawing function a case of the suite: number of pairs, generator -> log(head / base).
        regressed: how many of them, from the first on, are truly slower.
        margins: a margin for each case as a fraction, None for that of device time.
    """

    name: str
    cases: tuple[Draw, ...]
    regressed: int = 0
    margins: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """What became of a scenario's suites. Rates are fractions.

    Attributes:
        suites: suites judged.
        comparisons: cases judged in all of them.
        false_slower: unchanged cases that were called SLOWER.
        suite_false_failure: suites with at least one such case.
        suite_false_failure_bound: upper bound of that rate (Clopper-Pearson, 95%).
        found: truly slower cases that were called SLOWER.
        found_at_first_look: those that needed no extension.
        passed_though_slower: truly slower cases that were let through.
        unchanged_same, unchanged_faster, unchanged_inconclusive: verdicts on unchanged cases.
        extended: suites that needed the extension.
        suites_passed: suites in which every case passed: exit code 0.
    """

    name: str
    suites: int
    comparisons: int
    false_slower: int
    suite_false_failure: float
    suite_false_failure_bound: float
    found: float | None
    found_at_first_look: float | None
    passed_though_slower: float | None
    unchanged_same: float | None
    unchanged_faster: float | None
    unchanged_inconclusive: float | None
    extended: float
    suites_passed: float

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Draws from recorded pairs of one case, without replacement while there are enough of them.

    Attributes:
        log_ratios: log(head / base), one a recorded pair.
        swapped: whether either side may be called the base, as where both ran the same code.
    """

    log_ratios: tuple[float, ...]
    swapped: bool = False

    def __call__(self, count: int, rng: np.random.Generator) -> _Array:
        """So many of the recorded pairs, in random order."""
        drawn = rng.choice(self.log_ratios, size=count, replace=count > len(self.log_ratios))
        return drawn * rng.choice([-1.0, 1.0], size=count) if self.swapped else drawn

    def again(self, places: _Array, *, swapped: bool) -> Recorded:
        """Another recording as this one might have been: its pairs, drawn with replacement.

        Args:
            places: numbers from 0 to below 1, shape (n,), one a pair of the new recording. Cases that were recorded in
                the same pairs are given the same.
            swapped: of the new recording.
        """
        chosen = (places * len(self.log_ratios)).astype(int)
        return Recorded(tuple(self.log_ratios[one] for one in chosen), swapped)


def from_pairs(log_ratios: Sequence[float] | _Array) -> Recorded:
    """Draw from recorded pairs of one case; what is returned can be sent to another process."""
    return Recorded(tuple(float(ratio) for ratio in log_ratios))


@dataclass(frozen=True, slots=True)
class Spread:
    """Rates over recordings that might have been made instead: the middle 95%, as (low, high)."""

    suite_false_failure: tuple[float, float]
    suites_passed: tuple[float, float]
    found: tuple[float, float] | None


def over_recordings(scenario: Scenario, settings: JudgeSettings, recordings: int, suites: int, seed: int) -> Spread:
    """How far rates depend on the pairs that happened to be recorded: a bootstrap over pairs, then over suites.

    Drawing more suites from the same pairs makes a rate no surer. Unchanged cases are identical code, in which either
    side may be called the base. What no recorded pair showed, such as one odd pair in a thousand, is in none of it.

    Args:
        scenario: all of whose cases draw from recorded pairs.
        settings: as in the gate.
        recordings: resampled recordings.
        suites: suites drawn from each.
        seed: the same seed gives the same answer.
    """
    rng = np.random.default_rng(seed)
    found: list[Rates] = []
    for number in range(recordings):
        places = rng.random(max(len(case.log_ratios) for case in _recorded(scenario)))
        cases = tuple(
            case.again(places[: len(case.log_ratios)], swapped=place >= scenario.regressed)
            for place, case in enumerate(_recorded(scenario))
        )
        found.append(run(replace(scenario, cases=cases), settings, suites, seed + number))
    powers = [rates.found for rates in found if rates.found is not None]
    return Spread(
        suite_false_failure=_middle([rates.suite_false_failure for rates in found]),
        suites_passed=_middle([rates.suites_passed for rates in found]),
        found=_middle(powers) if powers else None,
    )


def _recorded(scenario: Scenario) -> list[Recorded]:
    return [case for case in scenario.cases if isinstance(case, Recorded)]


def _middle(rates: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def run(scenario: Scenario, settings: JudgeSettings, suites: int, seed: int) -> Rates:
    """Draw and judge suites.

    Args:
        scenario: what to draw.
        settings: as in the gate.
        suites: how many suites.
        seed: the same seed gives the same answer.
    """
    rng = np.random.default_rng(seed)
    names = [f"case{place}" for place in range(len(scenario.cases))]
    margins = dict(zip(names, scenario.margins, strict=True)) if scenario.margins else None
    gate = Sequential(settings, margins)
    slower = set(names[: scenario.regressed])
    on_changed: list[Decision] = []
    on_unchanged: list[Decision] = []
    false_suites = extended = passed = 0
    for _ in range(suites):
        pairs = {name: draw(gate.most_pairs, rng) for name, draw in zip(names, scenario.cases, strict=True)}
        decisions, more = judge(gate, pairs)
        extended += more
        passed += all(decision.passes(settings) for decision in decisions.values())
        on_changed += [decision for name, decision in decisions.items() if name in slower]
        unchanged = [decision for name, decision in decisions.items() if name not in slower]
        on_unchanged += unchanged
        false_suites += any(decision.verdict is Verdict.SLOWER for decision in unchanged)
    bound = stats.binomtest(false_suites, suites).proportion_ci(0.90).high
    return Rates(
        name=scenario.name,
        suites=suites,
        comparisons=suites * len(names),
        false_slower=sum(decision.verdict is Verdict.SLOWER for decision in on_unchanged),
        suite_false_failure=false_suites / suites,
        suite_false_failure_bound=float(bound),
        found=_share(on_changed, lambda decision: decision.verdict is Verdict.SLOWER),
        found_at_first_look=_share(
            on_changed,
            lambda decision: decision.verdict is Verdict.SLOWER and decision.pairs == settings.first_pairs,
        ),
        passed_though_slower=_share(on_changed, lambda decision: decision.passes(settings)),
        unchanged_same=_share(on_unchanged, lambda decision: decision.verdict is Verdict.SAME),
        unchanged_faster=_share(on_unchanged, lambda decision: decision.verdict is Verdict.FASTER),
        unchanged_inconclusive=_share(on_unchanged, lambda decision: decision.verdict is Verdict.INCONCLUSIVE),
        extended=extended / suites,
        suites_passed=passed / suites,
    )


def judge(gate: Sequential, pairs: Mapping[str, Sequence[float] | _Array]) -> tuple[dict[str, Decision], bool]:
    """Play the gate's two looks on pairs that are already there.

    Returns:
        The decisions, and whether the extension was needed.
    """
    first = {name: list(ratios)[: gate.settings.first_pairs] for name, ratios in pairs.items()}
    answers = gate.update(first)
    undecided = [name for name, answer in answers.items() if isinstance(answer, NeedMore)]
    if undecided:
        answers = gate.update(first | {name: list(pairs[name])[: gate.most_pairs] for name in undecided})
    return {name: answer for name, answer in answers.items() if isinstance(answer, Decision)}, bool(undecided)


def _share(decisions: Sequence[Decision], holds: Callable[[Decision], bool]) -> float | None:
    return sum(map(holds, decisions)) / len(decisions) if decisions else None
