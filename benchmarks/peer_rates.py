"""How often other tools' rules call a regression on recorded pairs of processes.

The rules that count samples judge one process against one process: of the same pair (``same job``: turns were taken,
which flatters them) and of different pairs (``stored``: as against a baseline from another time). Two tools advise to
measure otherwise, and are judged as their authors run them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from trtgate.case import Quantity
from trtgate.judge.pairs import ProcessPair
from trtgate.judge.peers import RULES, PeerVerdict, Rule, Samples, google_benchmark, pyperf

Cell = tuple[str, Quantity]
Blocks = Sequence[Samples]
_Way = Callable[[list[ProcessPair], int], list[PeerVerdict]]

PYPERF: Final = "pyperf, 20 processes x 3 values (block medians)"
GOOGLE: Final = "Google Benchmark, 9 repetitions and more (block means)"
_PROCESSES: Final = 20
_VALUES: Final = 3
_REPETITIONS: Final = 9
_DRAWS: Final = 100  # of 20 processes from those that were recorded


def rates(recorded: Mapping[str, Mapping[Cell, list[ProcessPair]]], seed: int) -> list[dict[str, Any]]:
    """A row for each quantity, arm and rule: how often it calls a regression, an improvement, or neither.

    Args:
        recorded: pairs by arm, and by case and quantity.
        seed: of the draws of processes.
    """
    rows = []
    for arm, cells in sorted(recorded.items()):
        for quantity in sorted({cell[1] for cell in cells}):
            mine = [pairs for cell, pairs in cells.items() if cell[1] == quantity]
            place = {"quantity": str(quantity), "arm": arm}
            ways: dict[str, _Way] = {name: partial(_each, rule) for name, rule in RULES.items()}
            ways |= {PYPERF: partial(_drawn, np.random.default_rng(seed)), GOOGLE: _repeated}
            rows += [place | {"rule": name} | _told(way, mine) for name, way in ways.items()]
    return rows


def _each(rule: Rule, pairs: list[ProcessPair], shift: int) -> list[PeerVerdict]:
    """All samples of one process against all of another."""
    return _one_by_one(rule, [np.concatenate(p.base) for p in pairs], [np.concatenate(p.head) for p in pairs], shift)


def _repeated(pairs: list[ProcessPair], shift: int) -> list[PeerVerdict]:
    """Repetitions in one process, each of which reports its mean."""
    bases, heads = [_repetitions(pair.base) for pair in pairs], [_repetitions(pair.head) for pair in pairs]
    return _one_by_one(google_benchmark, bases, heads, shift)


def _repetitions(blocks: Blocks) -> Samples:
    """Means of equal stretches of the blocks, as many as are advised at least."""
    each = -(-_REPETITIONS // len(blocks))
    return np.array([stretch.mean() for block in blocks for stretch in np.array_split(block, each) if stretch.size])


def _one_by_one(rule: Rule, bases: Sequence[Samples], heads: Sequence[Samples], shift: int) -> list[PeerVerdict]:
    if shift and len(bases) < 2:
        return []
    return [rule(base, heads[(place + shift) % len(heads)]) for place, base in enumerate(bases)]


def _drawn(rng: np.random.Generator, pairs: list[ProcessPair], shift: int) -> list[PeerVerdict]:
    """20 fresh processes a side, of the same pairs or drawn apart; nothing where fewer were recorded.

    Of each process the last three blocks are its values, behind a warm-up. The draws share most of their processes, so
    that their number says nothing of how sure the rate is.
    """
    if len(pairs) < _PROCESSES:
        return []
    bases, heads = [_values(pair.base) for pair in pairs], [_values(pair.head) for pair in pairs]
    verdicts = []
    for _ in range(_DRAWS):
        ours = rng.permutation(len(pairs))[:_PROCESSES]
        theirs = rng.permutation(len(pairs))[:_PROCESSES] if shift else ours
        base, head = [bases[one] for one in ours], [heads[one] for one in theirs]
        verdicts.append(pyperf(np.concatenate(base), np.concatenate(head)))
    return verdicts


def _values(blocks: Blocks) -> Samples:
    return np.array([np.median(block) for block in blocks])[-_VALUES:]


def _told(way: _Way, cells: list[list[ProcessPair]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for label, shift in (("same job", 0), ("stored", 1)):
        found = [verdict for pairs in cells for verdict in way(pairs, shift)]
        told[f"{label}: comparisons"] = len(found) or None
        for kind in (PeerVerdict.REGRESSION, PeerVerdict.IMPROVEMENT, PeerVerdict.AMBIGUOUS):
            told[f"{label}: {kind}"] = sum(verdict is kind for verdict in found) / len(found) if found else None
    return told
