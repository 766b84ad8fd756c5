"""Fusions that came apart: which ONNX nodes shared a kernel in one engine and no longer do in another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_NAMED: Final = 4


def lost_fusions(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """Kernels of the base whose nodes run apart in the head, and nodes that more kernels do than before, or none.

    Args:
        base: facts with ``nodes`` and ``groups`` (see `trtgate.measure.compute_share.facts`).
        head: the same of the other engine. Nodes that have other names there are found by operator and order.

    Returns:
        One sentence a kernel or node; nothing where one of the two does not tell its groups.
    """
    if any(key not in side for side in (base, head) for key in ("nodes", "groups")):
        return []
    before, after = _Kernels.of(base), _Kernels.of(head)
    twins = _twins(before.nodes, after.nodes)
    found = []
    for kernel, nodes in before.groups.items():
        parts = after.parts([twins[node] for node in nodes if node in twins])
        if len(parts) > 1:
            told = "; ".join(f"{_names(after.nodes[node][1] for node in part)} {after.where(part)}" for part in parts)
            found.append(f"kernel '{kernel}' came apart: {told}.")
    shared = {node for nodes in before.groups.values() if len(nodes) > 1 for node in nodes}
    # A product that is claimed no more is told among the datatypes.
    products = set(base.get("compute", ()))
    for node, kernels in before.kernels_of.items():
        if node not in twins:
            continue
        now, name = after.kernels_of.get(twins[node], ()), after.nodes[twins[node]][1]
        if not now and node not in shared and before.nodes[node][1] not in products:
            found.append(f"node '{name}' is claimed by no kernel any more; it ran in {_names(kernels)}.")
        if len(now) > len(kernels):
            found.append(
                f"node '{name}' runs in {len(now)} kernels ({_names(now)}) instead of {len(kernels)} "
                f"({_names(kernels)})."
            )
    return found


@dataclass(frozen=True, slots=True)
class _Kernels:
    """Nodes by position, as (operator, name); positions by kernel; kernels by position."""

    nodes: Sequence[tuple[str, str]]
    groups: Mapping[str, Sequence[int]]
    kernels_of: Mapping[int, Sequence[str]]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> _Kernels:
        kernels: dict[int, list[str]] = defaultdict(list)
        for kernel, nodes in facts["groups"].items():
            for node in nodes:
                kernels[node].append(kernel)
        split = [node.split(" ", 1) for node in facts["nodes"]]
        return cls([(op, name) for op, name in split], facts["groups"], dict(kernels))

    def parts(self, nodes: Iterable[int]) -> list[list[int]]:
        """Nodes that share a kernel, directly or through others; each that no kernel claims is a part of its own."""
        parts: list[tuple[set[str], list[int]]] = []
        for node in nodes:
            kernels, joined = set(self.kernels_of.get(node, ())), [node]
            rest = []
            for others, members in parts:
                if kernels.isdisjoint(others):
                    rest.append((others, members))
                else:
                    kernels, joined = kernels | others, members + joined
            parts = [*rest, (kernels, joined)]
        return sorted((sorted(members) for _, members in parts), key=lambda part: part[0])

    def where(self, part: Sequence[int]) -> str:
        kernels = dict.fromkeys(kernel for node in part for kernel in self.kernels_of.get(node, ()))
        if not kernels:
            return "in no kernel that is told"
        return f"in {_names(kernels)}"


def _twins(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> dict[int, int]:
    """Position of a node in one graph to that of the same node in another."""
    if [op for op, _ in before] == [op for op, _ in after]:
        return {position: position for position in range(len(before))}
    index = {node: position for position, node in enumerate(after)}
    found = {position: index[node] for position, node in enumerate(before) if node in index}
    # What is left has another name: where as many of an operator are left on both sides, they come in the same order.
    taken = set(found.values())
    left: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, nodes, known in ((0, before, set(found)), (1, after, taken)):
        for position, (op, _) in enumerate(nodes):
            if position not in known:
                left[op][side].append(position)
    for ours, theirs in left.values():
        if len(ours) == len(theirs):
            found.update(zip(ours, theirs, strict=True))
    return found


def _names(names: Iterable[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    more = [f"{len(quoted) - _NAMED} more"] if len(quoted) > _NAMED else []
    *first, last = [*quoted[:_NAMED], *more]
    return f"{', '.join(first)} and {last}" if first else last
