"""The difference of two engines, layer by layer.

Layers have no stable names across builds, so they are matched by the source nodes that they cover; layers that cover
none (layout changes) by what they do and to which shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trtgate.measure.census import Census, Layer


class Change(StrEnum):
    """What became of a layer."""

    SAME = "same"
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One pair of layers, or a layer that only one engine has. Times are milliseconds, None where not profiled."""

    change: Change
    base: Layer | None
    other: Layer | None
    reasons: tuple[str, ...] = ()
    base_ms: float | None = None
    other_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        shown = self.other or self.base
        return {
            "change": str(self.change),
            "base": self.base.name if self.base else None,
            "other": self.other.name if self.other else None,
            "sources": list(shown.sources) if shown else [],
            "reasons": list(self.reasons),
            "base_ms": self.base_ms,
            "other_ms": self.other_ms,
        }


def difference(
    base: Census,
    other: Census,
    base_ms: Mapping[str, float] | None = None,
    other_ms: Mapping[str, float] | None = None,
) -> tuple[LayerDifference, ...]:
    """Match the kernels of two engines and say what changed, in the order of ``other``, removed layers at the end.

    Args:
        base: one engine.
        other: the other engine, of the same or a similar source graph.
        base_ms: milliseconds by layer name, where ``base`` was profiled.
        other_ms: the same of ``other``.
    """
    left = [layer for layer in base.layers if layer.is_kernel]
    right = [layer for layer in other.layers if layer.is_kernel]
    partner = _matched(left, right)
    rows = []
    for position, layer in enumerate(right):
        twin = left[partner[position]] if position in partner else None
        reasons = _reasons(twin, layer) if twin else ()
        rows.append(
            LayerDifference(
                change=Change.ADDED if twin is None else Change.CHANGED if reasons else Change.SAME,
                base=twin,
                other=layer,
                reasons=reasons,
                base_ms=(base_ms or {}).get(twin.name) if twin else None,
                other_ms=(other_ms or {}).get(layer.name),
            )
        )
    gone = set(range(len(left))) - set(partner.values())
    rows.extend(
        LayerDifference(Change.REMOVED, left[index], None, base_ms=(base_ms or {}).get(left[index].name))
        for index in sorted(gone)
    )
    return tuple(rows)


def _matched(left: list[Layer], right: list[Layer]) -> dict[int, int]:
    """Position in ``right`` to position in ``left``: best overlap of source nodes first."""
    holders: dict[str, list[int]] = defaultdict(list)
    for index, layer in enumerate(left):
        for name in layer.sources:
            holders[name].append(index)
    scored = []
    for position, layer in enumerate(right):
        for index in {index for name in layer.sources for index in holders[name]}:
            ours, theirs = set(layer.sources), set(left[index].sources)
            alike = len(ours & theirs) / len(ours | theirs)
            scored.append((-alike, layer.role is not left[index].role, abs(position - index), position, index))
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for *_, position, index in sorted(scored):
        if position not in partner and index not in taken:
            partner[position] = index
            taken.add(index)
    anonymous: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, layer in enumerate(left):
        if not layer.sources:
            anonymous[_work(layer)].append(index)
    for position, layer in enumerate(right):
        if not layer.sources and anonymous[_work(layer)]:
            partner[position] = anonymous[_work(layer)].pop(0)
    return partner


def _work(layer: Layer) -> tuple[Any, ...]:
    return (layer.kind, layer.operations, tuple(use.shape for use in layer.outputs))


def _reasons(base: Layer, other: Layer) -> tuple[str, ...]:
    found = []
    for label, before, after in (("reads", base.inputs, other.inputs), ("writes", base.outputs, other.outputs)):
        old, new = ({str(use.datatype) for use in uses} for uses in (before, after))
        if old != new:
            found.append(f"{label} {'+'.join(sorted(new))} instead of {'+'.join(sorted(old))}")
    lost = [name for name in base.sources if name not in other.sources]
    gained = [name for name in other.sources if name not in base.sources]
    if lost:
        found.append(f"no longer covers {', '.join(lost)}")
    if gained:
        found.append(f"also covers {', '.join(gained)}")
    if base.kind != other.kind:
        found.append(f"is {other.kind} instead of {base.kind}")
    if not found and base.tactic != other.tactic:
        # Only where nothing else tells them apart: a generated kernel's tactic is a hash of all of the above.
        found.append(f"tactic {other.tactic or 'unknown'} instead of {base.tactic or 'unknown'}")
    return tuple(found)
