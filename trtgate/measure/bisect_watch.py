"""What ``trtgate bisect`` tells of each run of its candidate while it works: an engine is built for it, in silence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Doing(StrEnum):
    """What a run of the candidate is for, in plain words."""

    LOOKING = "looking at the model's outputs"
    NARROWING = "narrowing down"
    ASKING = "asking whether a fusion hides the fault"
    REPEATING = "asking whether another build has the fault too"
    CONFIRMING = "confirming that all is right that the wrong tensor is computed from"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the candidate that is about to start.

    Attributes:
        number: from 1.
        shown: how many tensors the candidate is to show.
        doing: what for.
    """

    number: int
    shown: int
    doing: Doing


Watch: TypeAlias = Callable[[Run], AbstractContextManager[None]]
"""Is told of each run, and entered while the candidate runs."""


def unwatched(run: Run) -> AbstractContextManager[None]:
    """Watch nothing."""
    del run
    return nullcontext()
