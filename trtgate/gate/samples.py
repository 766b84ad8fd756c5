"""Writes the raw samples of a gate, in the format that `trtgate.judge.pairs` reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trtgate.errors import StorageError
from trtgate.gate.crew import Taken


def lines_of(taken: Taken) -> list[dict[str, Any]]:
    """One line an arm and side; what two arms share is written in both."""
    if taken.failures:
        return []
    return [
        {
            "pair": taken.pair,
            "case": taken.contest.case,
            "quantity": taken.contest.quantity,
            "arm": arm,
            "side": side,
            "blocks": [[float(f"{sample:.7g}") for sample in block] for block in taken.blocks[label]],
            "order": taken.turns[label],
        }
        for arm, labels in taken.contest.arms.items()
        for side, label in zip(("base", "head"), labels, strict=True)
    ]


class SampleFile:
    """An append-only file of JSON lines. A pair's contest is on disk when `append` returns.

    Args:
        path: the file; its folder is made.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise self._error(error) from None

    def append(self, taken: Taken) -> None:
        """Add the samples of one contest of one pair.

        Raises:
            StorageError: the disk is full, or the file went away.
        """
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines_of(taken))
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> StorageError:
        return StorageError(
            f"Samples cannot be written to {self._path} ({error.strerror}).", "Name a writable file with --samples."
        )
