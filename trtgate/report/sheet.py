"""What a comparison found, ready to be printed in any form. Holds decisions, makes none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trtgate.judge.verdict import Decision, Verdict, spell
from trtgate.record import without_seen
from trtgate.report.rows import Row

# What a person must look at first.
GRAVEST_FIRST = (
    Verdict.SLOWER,
    Verdict.MISSING,
    Verdict.INVALID,
    Verdict.INCONCLUSIVE,
    Verdict.INCOMPARABLE,
    Verdict.NEW,
    Verdict.FASTER,
    Verdict.SAME,
)
REGRESSIONS = (Verdict.SLOWER, Verdict.MISSING)


@dataclass(frozen=True, slots=True)
class Entry:
    """One judged quantity of one case.

    Attributes:
        case: id.
        quantity: what was judged.
        decision: verdict, reason and interval.
        passes: whether the policy lets this verdict through.
    """

    case: str
    quantity: str
    decision: Decision
    passes: bool

    @property
    def change(self) -> str:
        """The estimated change with its interval, empty where nothing was estimated."""
        return spell(self.decision.interval) if self.decision.interval is not None else ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole comparison.

    Attributes:
        command: what made it, such as ``trtgate gate``.
        base: name of the older side.
        head: name of the newer side.
        outcome: how it ended, in one word: pass, regression, inconclusive, invalid, nothing_compared.
        entries: every judged quantity.
        environment: what the A/A arm says of the machine; None where there was none.
        machine: GPU and stack in one line.
        notes: sentences that belong above the table, such as how much weaker stored runs are.
        elapsed_s: wall time that the comparison took, None where nothing was measured for it.
        skipped: by case that was not compared and need not be, why; the notes tell it too.
    """

    command: str
    base: str
    head: str
    outcome: str
    entries: tuple[Entry, ...]
    environment: Decision | None = None
    machine: str = ""
    notes: tuple[str, ...] = ()
    elapsed_s: float | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds_a_case(self) -> float | None:
        """Wall time over the cases that were judged, None where nothing was measured."""
        cases = {entry.case for entry in self.entries}
        return self.elapsed_s / len(cases) if self.elapsed_s is not None and cases else None

    @property
    def headline(self) -> str:
        """The outcome and the number of each verdict: ``regression: 2 slower, 28 same``."""
        counts = Counter(entry.decision.verdict for entry in self.entries)
        named = [f"{counts[verdict]} {verdict}" for verdict in GRAVEST_FIRST if counts[verdict]]
        outcome = self.outcome.replace("_", " ")
        return f"{outcome}: {', '.join(named)}" if named else outcome

    @property
    def by_gravity(self) -> list[Entry]:
        """Entries, the ones to look at first in front; equal ones by case and quantity."""
        return sorted(
            self.entries, key=lambda entry: (GRAVEST_FIRST.index(entry.decision.verdict), entry.case, entry.quantity)
        )

    def told_by_environment(self, entry: Entry) -> bool:
        """Whether a row has no reason of its own: the machine is unfit, which is said once for all."""
        return self.environment is not None and entry.decision.reason == self.environment.reason

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ratios are head / base, so that above 1 is slower or larger."""
        return {
            "schema_version": 1,
            "command": self.command,
            "base": self.base,
            "head": self.head,
            "outcome": self.outcome,
            "machine": self.machine,
            "notes": list(self.notes),
            "skipped": dict(self.skipped),
            "elapsed_s": self.elapsed_s,
            "seconds_a_case": self.seconds_a_case,
            "environment": _decision(self.environment) if self.environment is not None else None,
            "entries": [
                {"case": entry.case, "quantity": entry.quantity, "passes": entry.passes, **_decision(entry.decision)}
                for entry in self.by_gravity
            ],
        }


def row_of(entry: Entry) -> Row:
    """An entry's case, verdict and reason as a row, as whose they are joined with those of others."""
    note, seen = without_seen(entry.decision.reason)
    return Row(entry.case, verdict=entry.decision.verdict.value, note=note, seen=seen)


def split(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Entries that need a look (all but SAME), and the rest."""
    kept = list(entries)
    quiet = [entry for entry in kept if entry.decision.verdict is Verdict.SAME]
    return [entry for entry in kept if entry.decision.verdict is not Verdict.SAME], quiet


def _decision(decision: Decision) -> dict[str, Any]:
    interval = decision.interval
    return {
        "verdict": str(decision.verdict),
        "code": decision.code,
        "reason": decision.reason,
        "ratio": _number(interval.estimate) if interval is not None else None,
        "low": _number(interval.low) if interval is not None else None,
        "high": _number(interval.high) if interval is not None else None,
        "confidence": interval.confidence if interval is not None else None,
        "resolvable": _number(decision.resolvable),
        "pairs": decision.pairs,
    }


def _number(value: float | None) -> float | None:
    """JSON has no infinity: an end that an interval does not have is null."""
    return value if value is not None and math.isfinite(value) else None
