"""Exact comparison of facts that have no noise: a layer census, counts, datatypes, switches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# By the last word of a fact's path. What is in neither set has no better side: any change of it counts as a step back
# until a person accepts it.
_LESS_IS_BETTER: Final = frozenset({"layers", "kernels", "casts", "reformats", "fallbacks", "float32_layers", "bytes"})
_MORE_IS_BETTER: Final = frozenset({"share", "coverage", "nodes_per_layer", "folded", "removed", "fused", "merged"})


@dataclass(frozen=True, slots=True)
class FactChange:
    """One fact that two runs tell differently.

    Attributes:
        name: dotted path of the fact.
        base: its value in the base, None where the base lacks it.
        head: its value in the head, None where the head lacks it.
        better: whether the head's is a gain.
    """

    name: str
    base: Any
    head: Any
    better: bool

    def __str__(self) -> str:
        return f"{self.name} {self.base!r} -> {self.head!r}"


def fact_changes(base: Mapping[str, Any], head: Mapping[str, Any], margin: float) -> list[FactChange]:
    """Compare two trees of plain JSON facts, leaf by leaf.

    Args:
        base: facts of the base.
        head: facts of the head.
        margin: fraction by which a number may be worse, 0 for exactly.

    Returns:
        What differs beyond the margin, in the order of the names.
    """
    left, right = dict(_leaves(base, "")), dict(_leaves(head, ""))
    changes = []
    for name in sorted(left.keys() | right.keys()):
        before, after = left.get(name), right.get(name)
        if name in left and name in right and (before == after or _close(before, after, margin)):
            continue
        changes.append(FactChange(name, before, after, _better(name, before, after)))
    return changes


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [leaf for key in value for leaf in _leaves(value[key], f"{path}.{key}" if path else str(key))]
    return [(path, value)]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _close(before: Any, after: Any, margin: float) -> bool:
    return _number(before) and _number(after) and abs(after - before) <= margin * abs(before)


def _better(name: str, before: Any, after: Any) -> bool:
    if not (_number(before) and _number(after)):
        return False
    last = name.rsplit(".", 1)[-1]
    return (last in _LESS_IS_BETTER and after < before) or (last in _MORE_IS_BETTER and after > before)
