"""Writes the raw samples of a gate, in the format that `trtgate.judge.pairs` reads."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Self

from trtgate.artefacts import replace
from trtgate.errors import RecordError, StorageError
from trtgate.gate.crew import Taken
from trtgate.judge.pairs import read_pairs


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
        offset: added to the number of each pair, so that those of several gates stay apart.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise self._error(error) from None

    @classmethod
    def added_to(cls, path: Path) -> Self:
        """A file that may hold samples of earlier gates: pairs are numbered on, and what a killed one tore is mended.

        Raises:
            StorageError: it cannot be read or written.
            RecordError: it holds something else.
        """
        if not path.is_file() or path.stat().st_size == 0:
            return cls(path)
        mend(path)
        if path.stat().st_size == 0:
            return cls(path)
        return cls(path, max(pair.pair for pair in read_pairs(path)) + 1)

    def append(self, taken: Taken) -> None:
        """Add the samples of one contest of one pair. Where that fails nothing of them stays behind.

        Raises:
            StorageError: the disk is full, or the file went away.
        """
        lines = [line | {"pair": line["pair"] + self._offset} for line in lines_of(taken)]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        try:
            with self._path.open("ab", buffering=0) as file:
                whole = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file, text.encode())
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(
                        OSError
                    ):  # a device has no length to cut; the first error is the one to tell
                        file.truncate(whole)
                    raise
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> StorageError:
        return StorageError(
            f"Samples cannot be written to {self._path} ({error.strerror}).", "Name a writable file with --samples."
        )


def _write_all(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def mend(path: Path) -> int:
    """Take away what a recording that was killed left half-written: a torn last line, a side without its other.

    Returns:
        Lines taken away.

    Raises:
        RecordError: a line before the last is damaged.
        StorageError: the file cannot be read or written.
    """
    try:
        whole, _, torn = path.read_text(encoding="utf-8").rpartition("\n")
        lines = whole.splitlines()
        made = [json.loads(line) for line in lines]
        keys = [(line["pair"], line["case"], line["quantity"], line["arm"]) for line in made]
        sides = Counter(keys)
        kept = [line for line, key in zip(lines, keys, strict=True) if sides[key] == len(("base", "head"))]
        gone = len(lines) - len(kept) + bool(torn)
        if gone:
            replace(path, "".join(f"{line}\n" for line in kept).encode())
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} holds a line that is not of a recording ({error}).", "Restore the file.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be mended ({error.strerror}).", "Make it writable.") from None
    return gone
