"""What the reports print: numbers that were worked out before, one row a case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trtgate.record import with_seen

BASELINE_NAMES = {"eager": "eager", "eager_graph": "graphed eager", "inductor": "inductor"}
CASE = "CASE"
_NAMED = 3
_WELL = ("passed", "same")
# Ends of an interval further apart than this cannot tell a win from a loss of any size that occurs.
_WIDEST_FACTOR = 10.0


class Bounds(Protocol):
    """An estimate with its confidence interval, such as `trtgate.judge.stats.Interval`."""

    @property
    def estimate(self) -> float:
        """The value itself."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


@dataclass(frozen=True, slots=True)
class Range:
    """Plain `Bounds`: an estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ParityCell:
    """Relative L2 error of the worst output, and the bound that it was held to."""

    relative_l2: float
    bound: float

    @property
    def within(self) -> bool:
        """Whether the error keeps to its bound."""
        return self.relative_l2 <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One case of the table.

    Attributes:
        case: id.
        device_s: median GPU seconds of an inference.
        latency_s: median seconds that a caller waits for one inference.
        throughput_per_s: inferences a second with work queued back to back.
        device_speedups: by baseline (eager, eager_graph, inductor), in device time.
        latency_speedups: the same in latency.
        parity: the worst output's error, None where parity was not checked.
        verdict: one word.
        note: why, in one sentence; empty when nothing needs saying. Of a known failure, what the policy says of it.
        seen: what a known failure looked like this time; empty for the others.
        details: further figures for the reports that have room, such as build seconds; text by name.
        unsteady: of device, latency and throughput those whose samples lie too far apart to be taken at their word.
        proof: whether the optimiser's work was looked at and nothing else, so that there are no times.
    """

    case: str
    device_s: Bounds | None = None
    latency_s: Bounds | None = None
    throughput_per_s: Bounds | None = None
    device_speedups: dict[str, Bounds] = field(default_factory=dict)
    latency_speedups: dict[str, Bounds] = field(default_factory=dict)
    parity: ParityCell | None = None
    verdict: str = ""
    note: str = ""
    seen: str = ""
    details: dict[str, str] = field(default_factory=dict)
    unsteady: frozenset[str] = frozenset()
    proof: bool = False

    @property
    def why(self) -> str:
        """All there is to say of the verdict."""
        return with_seen(self.note, self.seen) if self.seen else self.note


@dataclass(frozen=True, slots=True)
class SkipGroup:
    """Cases that share the reason for which they did not run."""

    reason: str
    cases: tuple[str, ...]


def group_skips(skipped: Iterable[tuple[str, str]]) -> list[SkipGroup]:
    """Join skipped cases by their reason, the commonest reason first."""
    groups: dict[str, list[str]] = {}
    for case, reason in skipped:
        groups.setdefault(reason, []).append(case)
    made = [SkipGroup(reason, tuple(cases)) for reason, cases in groups.items()]
    return sorted(made, key=lambda group: (-len(group.cases), group.reason))


def named(cases: Sequence[str]) -> str:
    """The first three cases and the number of the others."""
    return ", ".join(cases[:_NAMED]) + (f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else "")


def split_proofs(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Rows for the table, and a sentence for the proofs of the optimiser that went well: they have nothing to show."""
    table: list[Row] = []
    proven: dict[str, list[Row]] = {}
    for row in rows:
        if row.proof and row.verdict in _WELL:
            proven.setdefault(row.verdict, []).append(row)
        else:
            table.append(row)
    sentences = []
    for verdict, found in proven.items():
        models = ", ".join(dict.fromkeys(row.case.split("-")[0] for row in found))
        sentences.append(f"Optimiser proofs, without times: {len(found)} {verdict} ({models}).")
    return table, sentences


def baselines_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Baselines that at least one row was compared with, in the order of `BASELINE_NAMES`, unknown ones last."""
    found = {name for row in rows for name in (*row.device_speedups, *row.latency_speedups)}
    known = [name for name in BASELINE_NAMES if name in found]
    return (*known, *sorted(found - set(known)))


def unclear(bounds: Bounds) -> bool:
    """Whether a speedup's interval spans more than a factor of ten, or has no end, and so says nothing."""
    return not (bounds.low > 0 and math.isfinite(bounds.high) and bounds.high <= _WIDEST_FACTOR * bounds.low)


def legend(rows: Iterable[Row], *, rate: bool = True) -> list[str]:
    """Why the times of one case differ, in plain words; names only what the table shows.

    Args:
        rows: of the table.
        rate: whether inferences a second are among the columns.
    """
    kept = list(rows)
    sentences = []
    if any(row.device_s for row in kept):
        sentences.append(
            "device: what the GPU works on one inference while more work is already queued; launch gaps do not count."
        )
    if any(row.latency_s for row in kept):
        sentences.append(
            "latency: what a caller waits for one inference, from the call until the device is idle again; it also "
            "holds what the host needs to launch the work."
        )
    if rate and any(row.throughput_per_s for row in kept):
        sentences.append("inf/s: inferences a second with work queued back to back, a whole batch being one inference.")
    if any(row.device_s for row in kept) and any(row.latency_speedups for row in kept):
        sentences.append(
            "A small model can win far more in latency than in device time: then it is launch overhead that went, not "
            "computation. Graphed eager is PyTorch without that overhead, and the fairer rival."
        )
    if any(row.unsteady for row in kept):
        sentences.append(
            "?: the samples of this time lie far apart, as its note says: something else used the machine, or the "
            "clocks moved."
        )
    speedups = (one for row in kept for cells in (row.device_speedups, row.latency_speedups) for one in cells.values())
    if any(map(unclear, speedups)):
        sentences.append(
            "unclear: too few rounds for an interval, or rounds that depend too much on one another; the speedup "
            "before it is no evidence."
        )
    return sentences
