"""Whose turn it is, told so that the death of the process does not take the answer along.

Several cases are called by turns, thousands of times: a line of the journal at each would disturb what is timed. A byte
of a mapped file costs no more to set than any other byte, and the system keeps it when the process is killed.
"""

from __future__ import annotations

import mmap
from pathlib import Path


class Turn:
    """Which of several is being called, counted from 1; 0 is none of them.

    Args:
        path: the file, made by the first `slot`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slot: mmap.mmap | bytearray | None = None

    def slot(self) -> mmap.mmap | bytearray:
        """A place whose first byte is to be set; it is 0 now."""
        if self._slot is None:
            self._slot = _mapped(self.path)
        self._slot[0] = 0
        return self._slot

    def last(self) -> int:
        """What the process before set last; 0 where it did not say."""
        try:
            return next(iter(self.path.read_bytes()), 0)
        except OSError:
            return 0

    def close(self) -> None:
        """Let go of the file."""
        if isinstance(self._slot, mmap.mmap):
            self._slot.close()
        self._slot = None


def _mapped(path: Path) -> mmap.mmap | bytearray:
    try:
        with path.open("w+b", buffering=0) as file:
            file.write(b"\0")  # takes its room on the disk now: setting a mapped byte could not say that there is none
            return mmap.mmap(file.fileno(), 1)
    except OSError:
        # Some network file systems map no files: a process that dies there does not tell whose turn it was.
        return bytearray(1)
