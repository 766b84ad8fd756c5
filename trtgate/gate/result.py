"""What a gate found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtgate.case import Quantity
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.sides import Side, same_code
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings
from trtgate.record import Identity
from trtgate.report.sheet import Entry, Sheet


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decisions of a gate and what they rest on.

    Attributes:
        base: the side that is the yardstick.
        head: the side that is judged.
        decisions: by case and quantity.
        environment: the judge's word on the A/A arm, None where nothing was timed.
        skipped: by case that nobody asked for by name, why neither side can run it here.
        notes: what a reader should know of the machine.
        identity: machine and stack of the base.
        pairs: pairs of processes that were run.
        elapsed_s: wall time of the whole gate, from the start of its first process on.
    """

    base: Side
    head: Side
    decisions: Mapping[tuple[str, Quantity], Decision]
    environment: Decision | None
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    identity: Identity
    pairs: int
    elapsed_s: float

    def outcome(self, settings: JudgeSettings) -> GateOutcome:
        """The gate's one word.

        A regression wins over an invalid machine: while identical code looks different the judge's word on every timing
        is INVALID, so what is then still SLOWER or MISSING was found without a clock.
        """
        made = list(self.decisions.values())
        if any(_regressed(decision, settings) for decision in made):
            return GateOutcome.REGRESSION
        if self.environment is not None and self.environment.verdict is Verdict.INVALID:
            return GateOutcome.INVALID
        if any(decision.verdict is Verdict.INVALID for decision in made):
            return GateOutcome.INVALID
        if not any(decision.verdict.compared for decision in made):
            return GateOutcome.NOTHING_COMPARED
        return GateOutcome.PASS if all(d.passes(settings) for d in made) else GateOutcome.INCONCLUSIVE

    def sheet(self, settings: JudgeSettings) -> Sheet:
        """The result as the reports print it."""
        skipped = [f"Skipped on both sides: {case}: {reason}" for case, reason in self.skipped.items()]
        return Sheet(
            command="trtgate gate",
            base=self.base.title,
            head=self.head.title,
            outcome=self.outcome(settings).value,
            entries=tuple(
                Entry(case, quantity.value, decision, decision.passes(settings))
                for (case, quantity), decision in self.decisions.items()
            ),
            environment=self.environment,
            machine=f"{self.identity.folder}, {self.pairs} pairs of processes",
            notes=(*filter(None, [same_code(self.base, self.head)]), *self.notes, *skipped),
            elapsed_s=self.elapsed_s,
            skipped=dict(self.skipped),
        )


def _regressed(decision: Decision, settings: JudgeSettings) -> bool:
    if decision.verdict is Verdict.FASTER:
        return not decision.passes(settings)  # a suite that wants its wins explained
    return decision.verdict in (Verdict.SLOWER, Verdict.MISSING)
