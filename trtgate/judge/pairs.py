"""Recorded pairs of processes: the samples behind every claim about the gate's error rates.

A file holds JSON lines, one a (pair, case, quantity, arm, side)::

    {"pair": 0, "case": "resnet18-...-graph", "quantity": "device", "arm": "aa", "side": "base",
     "blocks": [[3.4e-4, ...], ...], "order": [[0], [3], ...]}

``blocks`` are seconds an inference in the order taken; base and head blocks alternate and are equally many. ``order``
is where each block stood in the turns of its pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import stats

from trtgate.case import Case, Quantity
from trtgate.errors import RecordError, UsageError
from trtgate.validation import first_problem

# A quarter of the block pairs is cut at either end: a block with a hiccup has no say, and enough are left to average.
_TRIMMED: Final = 0.25
_RESTORE = "Restore the file or record it again."

Arm = Literal["aa", "head", "+2%", "+3%", "+5%"]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: int = Field(ge=0)
    case: str
    quantity: Quantity
    arm: Arm
    side: Literal["base", "head"]
    blocks: tuple[Annotated[tuple[_Seconds, ...], Field(min_length=1)], ...] = Field(min_length=1)
    order: tuple[tuple[int, ...] | int, ...]


@dataclass(frozen=True, slots=True)
class ProcessPair:
    """Two processes that took turns on one device.

    Attributes:
        base: seconds an inference, one array a block.
        head: the same of the other side, as many blocks.
    """

    pair: int
    case: str
    quantity: Quantity
    arm: str
    base: tuple[npt.NDArray[np.float64], ...]
    head: tuple[npt.NDArray[np.float64], ...]

    @property
    def log_ratio(self) -> float:
        """log(head / base) of this pair: its one figure."""
        return log_ratio(self.base, self.head)


def log_ratio(
    base_blocks: Sequence[Sequence[float] | npt.NDArray[np.float64]],
    head_blocks: Sequence[Sequence[float] | npt.NDArray[np.float64]],
) -> float:
    """One pair's log ratio head / base: the trimmed mean over its turns of the log ratios of block medians.

    Medians keep spikes out of a block, trimming keeps a disturbed block out of the pair, and the mean over turns whose
    order is balanced (ABBA) lets a linear drift cancel.

    Args:
        base_blocks: seconds an inference, one sequence a block, in the order taken.
        head_blocks: the same turns of the other side.

    Raises:
        RecordError: unequal numbers of blocks, none, or a time that is not positive and finite.
    """
    if len(base_blocks) != len(head_blocks) or not base_blocks:
        raise RecordError(
            f"A pair has {len(base_blocks)} blocks of the base and {len(head_blocks)} of the head.",
            "Record as many of one as of the other, at least one.",
        )
    medians = np.array([[np.median(block) for block in side] for side in (base_blocks, head_blocks)])
    if not np.all(np.isfinite(medians)) or np.any(medians <= 0):
        raise RecordError("A block's median time is not a positive number.", _RESTORE)
    base, head = np.log(medians)
    return float(stats.trim_mean(head - base, _TRIMMED))


def read_pairs(path: Path) -> list[ProcessPair]:
    """Read a file of recorded pairs.

    Raises:
        RecordError: unreadable, damaged, a side that is missing or doubled, or sides of unequal length.
    """
    sides: defaultdict[tuple[int, str, Quantity, str], dict[str, _Line]] = defaultdict(dict)
    try:
        with path.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, start=1):
                if text.strip():
                    line = _line(text, f"{path}:{number}")
                    found = sides[line.pair, line.case, line.quantity, line.arm]
                    if line.side in found:
                        raise RecordError(f"{path}:{number} repeats the {line.side} of a pair.", _RESTORE)
                    found[line.side] = line
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read ({error}).", "Name a file of recorded pairs.") from None
    if not sides:
        raise RecordError(f"{path} holds no pair.", "Name a file of recorded pairs.")
    return [_pair(key, found, path) for key, found in sides.items()]


def _line(text: str, where: str) -> _Line:
    try:
        line = _Line.model_validate_json(text)
        Case.parse(line.case)
    except ValidationError as error:
        problem = first_problem(error, "the line")
        raise RecordError(f"{where} is not a recorded side of a pair: {problem}.", _RESTORE) from None
    except UsageError as error:
        raise RecordError(f"{where} is not a recorded side of a pair: {error.problem}", _RESTORE) from None
    if len(line.order) != len(line.blocks):
        raise RecordError(f"{where} has {len(line.blocks)} blocks and {len(line.order)} positions.", _RESTORE)
    return line


def _pair(key: tuple[int, str, Quantity, str], found: dict[str, _Line], path: Path) -> ProcessPair:
    named = f"Pair {key[0]} of '{key[1]}' ({key[2]}, {key[3]}) in {path}"
    if len(found) != 2:
        raise RecordError(f"{named} has only its {next(iter(found))}.", _RESTORE)
    base, head = found["base"].blocks, found["head"].blocks
    if len(base) != len(head):
        raise RecordError(f"{named} has {len(base)} and {len(head)} blocks.", _RESTORE)
    return ProcessPair(*key, tuple(np.array(block) for block in base), tuple(np.array(block) for block in head))
