"""The order in which the sides of a gate take turns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

_Side = TypeVar("_Side")


def balanced(sides: Sequence[_Side], blocks: int, rng: random.Random) -> tuple[_Side, ...]:
    """A random order in which every side has ``blocks`` blocks and any linear drift cancels.

    Two blocks a side at a time: a random permutation and then its mirror image, so that two sides go ABBA or BAAB and
    every side's mean position is the same. A drift that is linear over such a group adds equally to all sides.

    Args:
        sides: who takes turns.
        blocks: blocks of each side, an even number.
        rng: source of the order; the caller seeds it.

    Returns:
        ``blocks * len(sides)`` entries.

    Raises:
        ValueError: ``blocks`` is odd or below 2.
    """
    if blocks < 2 or blocks % 2:
        raise ValueError(f"{blocks} blocks a side cannot be balanced; use an even number")
    order: list[_Side] = []
    for _ in range(blocks // 2):
        there = list(sides)
        rng.shuffle(there)
        order += there + there[::-1]
    return tuple(order)
