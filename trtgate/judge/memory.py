"""Comparing what two sides hold in memory: whose bytes they are decides whether a difference says anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from trtgate.case import Quantity
from trtgate.judge.exact import judge_exact, least_figure
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings
from trtgate.record import Record

# Whose memory it is, the surest first: this process's on the GPU, this process's on the CPU, the whole GPU's.
_WHOLE: Final = "device"
_KINDS: Final = ("device_process", "process", _WHOLE)
# What a builder allocates and what a library loads on first use stay in the memory of the case that came first.
_STARTS: Final = ("from_cache", "loads_libraries")


@dataclass(frozen=True, slots=True)
class Memory:
    """What one side holds.

    Attributes:
        figures: bytes, by whose memory they are.
        neighbours: ids of other processes that were on the GPU meanwhile.
        watched: whether others would have been seen.
    """

    figures: Mapping[str, float]
    neighbours: tuple[int, ...] = ()
    watched: bool = False

    @classmethod
    def of_record(cls, record: Record) -> Self:
        """What a stored row of one figure holds. Rows that do not say more are of the whole GPU, and unwatched."""
        assert record.series is not None
        size: float = record.series.values[0]
        told = record.facts.get("total_bytes")
        if isinstance(told, int) and np.float32(told) == size:  # a packed sample has seven digits only
            size = told
        figures = _figures({"where": _WHOLE, **record.facts, "total_bytes": float(size)})
        return cls(figures, record.environment.neighbours, bool(record.facts.get("watched")))

    @classmethod
    def of_builds(cls, builds: Sequence[Mapping[str, Any]]) -> Self | None:
        """The median over the builds of one side of a gate, without those that others disturbed where some were not.

        Args:
            builds: what a worker says of each; ``neighbours`` without the gate's own processes.

        Returns:
            None where no build tells.
        """
        telling = [build for build in builds if build.get("footprint_bytes") is not None]
        if not telling:
            return None
        told = [build for build in telling if not build.get("neighbours")] or telling
        # An older worker does not say whose memory it is: what the newer side measures too is compared with that.
        each = [
            _figures(build.get("footprint") or {})
            or dict.fromkeys(("process", _WHOLE), float(build["footprint_bytes"]))
            for build in told
        ]
        kinds = [kind for kind in _KINDS if all(kind in figures for figures in each)]
        return cls(
            {kind: float(np.median([figures[kind] for figures in each])) for kind in kinds},
            tuple(sorted({pid for build in told for pid in build.get("neighbours") or ()})),
            all((build.get("footprint") or {}).get("watched") for build in told),
        )


def judge_memory_rows(old: Record, new: Record, settings: JudgeSettings) -> Decision:
    """Judge two stored rows."""
    for name, row in (("base", old), ("head", new)):
        if row.series is None or row.series.count != 1:
            count = 0 if row.series is None else row.series.count
            return Decision(Verdict.INVALID, "no_samples", f"The {name}'s row holds {count} figures instead of one.")
    if any(old.facts.get(fact) != new.facts.get(fact) for fact in _STARTS):
        reason = "One was built, or loaded its backend's libraries, and the other was not: their memory is not alike."
        return Decision(Verdict.INCOMPARABLE, "other_start", reason)
    margin = settings.margin_for(new.case, new.quantity)
    return judge_memory(Memory.of_record(old), Memory.of_record(new), settings, margin)


def judge_memory(base: Memory, head: Memory, settings: JudgeSettings, margin: float) -> Decision:
    """Judge what both sides measured alike.

    What other processes take and give back meanwhile is in the whole GPU's memory. Where they were seen, it says
    nothing of the case. Where nobody looked for them, two figures that agree are believed, and two that differ are not.
    """
    kind = next((kind for kind in _KINDS if kind in base.figures and kind in head.figures), None)
    if kind is None:
        measured = " and ".join(", ".join(side.figures) or "nothing" for side in (base, head))
        return Decision(Verdict.INCOMPARABLE, "other_measure", f"The sides measured different memory: {measured}.")
    sides = {"base": base, "head": head}
    blind = [name for name, side in sides.items() if not side.watched]
    if kind == _WHOLE and not blind and any(side.neighbours for side in sides.values()):
        who = " and ".join(
            f"beside the {name} ({', '.join(map(str, side.neighbours))})"
            for name, side in sides.items()
            if side.neighbours
        )
        reason = f"These bytes are growth of the whole GPU's memory, and other processes were on it {who}."
        return Decision(Verdict.INCOMPARABLE, "neighbours", reason)
    least = least_figure(Quantity.MEMORY, settings)
    before, after = (np.array([side.figures[kind]]) for side in sides.values())
    decision = judge_exact(before, after, Quantity.MEMORY, margin, least, settings.least_memory_bytes)
    if kind != _WHOLE or not blind or decision.verdict is Verdict.SAME:
        return decision
    _, _, change = decision.reason.partition(": ")
    reason = (
        f"{change} These bytes are growth of the whole GPU's memory, and nobody looked for other processes on it "
        f"beside the {' and the '.join(blind)}: the difference may be theirs."
    )
    return Decision(Verdict.INCOMPARABLE, "unwatched", reason)


def _figures(footprint: Mapping[str, Any]) -> dict[str, float]:
    """The bytes of a footprint, by whose memory they are; empty where it does not say."""
    told = {_WHOLE: footprint.get("device_bytes"), footprint.get("where"): footprint.get("total_bytes")}
    figures = {kind: float(size) for kind in _KINDS if isinstance(size := told.get(kind), int | float)}
    return {kind: size for kind, size in figures.items() if np.isfinite(size)}
