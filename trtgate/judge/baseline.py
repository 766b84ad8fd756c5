"""Comparing two stored runs, case by case.

Weaker than the pull-request gate, and says so: each run holds one process a case, and one process's luck moves its
median by up to a third (`StoredSettings`). That spread is added to what the samples show: only large changes stand out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trtgate.case import Case, Quantity
from trtgate.errors import NothingComparedError
from trtgate.judge.comparability import differences
from trtgate.judge.exact import judge_exact, least_figure
from trtgate.judge.interval import Interval
from trtgate.judge.memory import judge_memory_rows
from trtgate.judge.multiplicity import holm
from trtgate.judge.optimised import judge_census
from trtgate.judge.stats import median_interval
from trtgate.judge.verdict import Decision, Verdict, spell
from trtgate.policy.judge import JudgeSettings
from trtgate.record import Outcome, Record

Key = tuple[str, str]
_TIMES = frozenset({Quantity.DEVICE, Quantity.LATENCY, Quantity.THROUGHPUT, Quantity.BUILD})
# Of one run's own median; its standard error is read back from the interval's width.
_ONE_SIGMA = float(stats.norm.cdf(1) - stats.norm.cdf(-1))
_FEWEST_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity of one case in two runs."""

    case: str
    quantity: Quantity
    decision: Decision


@dataclass(frozen=True, slots=True)
class _Change:
    """Log ratio head / base of a noisy quantity with its standard error."""

    log_ratio: float
    error: float
    margin: float

    def p(self, side: Verdict) -> float:
        bound = float(np.log1p(self.margin))
        if side is Verdict.SLOWER:
            return float(stats.norm.sf((self.log_ratio - bound) / self.error))
        return float(stats.norm.cdf((self.log_ratio + bound) / self.error))

    def interval(self, level: float) -> Interval:
        """Two-sided interval whose bounds are one-sided tests at this level."""
        reach = float(stats.norm.isf(level)) * self.error
        low, middle, high = np.exp([self.log_ratio - reach, self.log_ratio, self.log_ratio + reach])
        return Interval(float(middle), float(low), float(high), 1 - 2 * level)


def compare_runs(base: Iterable[Record], head: Iterable[Record], settings: JudgeSettings) -> list[Comparison]:
    """Judge every quantity of every case that either run holds.

    Args:
        base: records of the run that is the yardstick.
        head: records of the run that is judged.
        settings: margins and error rates; Holm's correction runs over all noisy comparisons.

    Returns:
        One comparison a key, in the order of the keys.

    Raises:
        NothingComparedError: the runs have no measured key in common.
    """
    left, right = _by_key(base), _by_key(head)
    measured = [{key for key, found in side.items() if _measured(found)} for side in (left, right)]
    if not measured[0] & measured[1]:
        raise NothingComparedError(
            f"The two runs have no measured case in common ({len(measured[0])} and {len(measured[1])} measured rows).",
            "Name two runs of the same cases.",
        )
    decisions: dict[Key, Decision] = {}
    noisy: dict[Key, _Change] = {}
    for key in sorted(left.keys() | right.keys()):
        judged = _judge(left.get(key, []), right.get(key, []), settings)
        if isinstance(judged, _Change):
            noisy[key] = judged
        elif judged is not None:
            decisions[key] = judged
    decisions |= _judge_noisy(noisy, settings)
    return [Comparison(key[0], Quantity(key[1]), decisions[key]) for key in sorted(decisions)]


def _by_key(records: Iterable[Record]) -> Mapping[Key, list[Record]]:
    found: defaultdict[Key, list[Record]] = defaultdict(list)
    for record in records:
        # A skipped row says what this machine lacks; for a comparison it is not there.
        if record.outcome is not Outcome.SKIPPED:
            found[record.key].append(record)
    return found


def _measured(records: list[Record]) -> bool:
    return any(record.outcome is Outcome.MEASURED for record in records)


def _judge(base: list[Record], head: list[Record], settings: JudgeSettings) -> Decision | _Change | None:
    """Everything but the statistics: presence, duplicates, failures, identity, exact quantities."""
    if len(base) > 1 or len(head) > 1:
        run = "base" if len(base) > 1 else "head"
        count = max(len(base), len(head))
        return Decision(Verdict.INVALID, "duplicate", f"The {run} holds this row {count} times instead of once.")
    if not head:
        return Decision(Verdict.MISSING, "vanished", "The head has no such row, and the base does.")
    new = head[0]
    old = base[0] if base else None
    if new.outcome is not Outcome.MEASURED:
        return _without_a_measurement(old, new, settings)
    if old is None or old.outcome is not Outcome.MEASURED:
        code = "new" if old is None else "recovered"
        reason = "The base has no such row." if old is None else f"The base could not measure it: {old.reason}"
        return Decision(Verdict.NEW, code, reason)
    if new.quantity is Quantity.OPTIMISATION:
        return _census(old, new, settings)
    if (apart := _apart(old, new)) is not None:
        return apart
    if new.quantity in _TIMES:
        return _noisy_change(old, new, settings)
    if new.quantity is Quantity.MEMORY:
        return judge_memory_rows(old, new, settings)
    assert old.series is not None
    assert new.series is not None
    before, after = old.series.values, new.series.values
    least = least_figure(new.quantity, settings, old.parity, before.size)
    return judge_exact(before, after, new.quantity, settings.margin_for(new.case, new.quantity), least)


def _without_a_measurement(old: Record | None, new: Record, settings: JudgeSettings) -> Decision:
    if old is not None and old.outcome is new.outcome is Outcome.KNOWN_FAILURE:
        return _known_to_fail(old, new, settings)
    if old is None and new.outcome is Outcome.KNOWN_FAILURE:
        return Decision(Verdict.NEW, "known_failure", f"New, and known to fail: {new.reason}")
    if old is None or old.outcome is Outcome.MEASURED:
        return Decision(Verdict.MISSING, "failed", f"The head could not measure it: {new.reason}")
    return Decision(Verdict.INVALID, "failed_both", f"Neither run could measure it: {new.reason}")


def _known_to_fail(old: Record, new: Record, settings: JudgeSettings) -> Decision:
    same = Decision(Verdict.SAME, "known_failure", f"Known to fail in both: {new.reason}")
    # Where a census was taken all the same, more of what is known to be wrong is a regression.
    if new.quantity is not Quantity.OPTIMISATION or not all("kernels" in row.facts for row in (old, new)):
        return same
    found = _census(old, new, settings)
    return same if found.verdict is Verdict.SAME else found


def _census(old: Record, new: Record, settings: JudgeSettings) -> Decision:
    apart = _apart(old, new)
    return apart or judge_census(old.facts, new.facts, settings.margin_for(new.case, new.quantity))


def _apart(old: Record, new: Record) -> Decision | None:
    """That two rows are not of one machine and stack; None where they are, as far as it matters to them."""
    found = differences(old.identity, new.identity, new.quantity, Case.parse(new.case))
    if not found:
        return None
    return Decision(Verdict.INCOMPARABLE, "identity", f"Machine, stack or clock differ: {'; '.join(found)}.")


def _noisy_change(old: Record, new: Record, settings: JudgeSettings) -> Decision | _Change:
    if new.quantity is Quantity.BUILD and (old.facts.get("from_cache") or new.facts.get("from_cache")):
        return Decision(Verdict.INCOMPARABLE, "from_cache", "A build was read from the cache: it has no build time.")
    logs, variance = [], 0.0
    for record in (old, new):
        assert record.series is not None
        values = record.series.values
        if values.size == 0 or values.min() <= 0:
            return Decision(Verdict.INVALID, "no_samples", "A run holds no samples, or a sample that is not positive.")
        logs.append(float(np.log(np.median(values))))
        if values.size >= _FEWEST_SAMPLES:
            own = median_interval(np.log(values), _ONE_SIGMA)
            variance += ((own.high - own.low) / 2) ** 2
    between = settings.between_process_sd(Case.parse(new.case), new.quantity)
    error = float(np.sqrt(variance + 2 * between**2))
    return _Change(logs[1] - logs[0], error, settings.margin_for(new.case, new.quantity))


def _judge_noisy(changes: Mapping[Key, _Change], settings: JudgeSettings) -> dict[Key, Decision]:
    decided: dict[Key, Decision] = {}
    rate = settings.false_failure_rate if "faster" in settings.passes else settings.false_failure_rate / 2
    for side in (Verdict.SLOWER, Verdict.FASTER):
        p_values = [change.p(side) for change in changes.values()]
        for (key, change), p, adjusted in zip(changes.items(), p_values, holm(p_values), strict=True):
            if adjusted <= rate:
                interval = change.interval(float(rate * p / adjusted) if p > 0 else rate / len(changes))
                reason = f"{side.value.capitalize()}: {spell(interval)}, beyond the margin of {change.margin * 100:g}%."
                decided[key] = Decision(side, "beyond_margin", f"{reason} {_weaker(change)}", interval)
    for key, change in changes.items():
        if key not in decided:
            decided[key] = _within(change, settings)
    return decided


def _within(change: _Change, settings: JudgeSettings) -> Decision:
    interval = change.interval(settings.false_same_rate)
    margin = f"the margin of {change.margin * 100:g}%"
    if interval.high < 1 + change.margin and interval.low > 1 / (1 + change.margin):
        reason = f"Same: {spell(interval)} lies within {margin}. {_weaker(change)}"
        return Decision(Verdict.SAME, "within_margin", reason, interval)
    reason = f"Inconclusive: {spell(interval)} neither clears {margin} nor stays within it. {_weaker(change)}"
    return Decision(Verdict.INCONCLUSIVE, "too_noisy", reason, interval)


def _weaker(change: _Change) -> str:
    error = change.error * 100
    return (
        f"Weaker evidence than 'trtgate gate': one process a side, {error:.{1 if error < 10 else 0}f}% standard error."
    )
