"""Which journal a run may write: one that no live run is writing.

Two runs of one machine and stack may go on at once, on two GPUs of one model for instance. The first writes
``<stack>.jsonl``, the next ``<stack>.2.jsonl`` and so on, and each is resumed by itself.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trtgate.errors import StorageError
from trtgate.store.files import make_folder, storage_error
from trtgate.store.journal import SUFFIX, Journal
from trtgate.store.turn import Turn

_MOST_RUNS: Final = 64  # on one machine at once: far more than it has GPUs


@dataclass(slots=True)
class Claim:
    """A journal that is this process's until it is released or the process ends, however it ends.

    Attributes:
        journal: to append to, or to resume from.
        turn: which of several cases is being called, or was when a run that is to be resumed died.
    """

    journal: Journal
    _lock: int
    turn: Turn = field(init=False)

    def __post_init__(self) -> None:
        self.turn = Turn(self.journal.path.with_suffix(".turn"))

    def release(self) -> None:
        """Let another run have the journal."""
        self.turn.close()
        os.close(self._lock)


def claim(folder: Path, name: str, *, max_bytes: int, resume: bool) -> Claim:
    """Take the first journal that no live run holds.

    Args:
        folder: of the journals.
        name: of the machine and stack.
        max_bytes: refuse to read a larger journal.
        resume: prefer one that a broken run left to one that is not there yet.

    Raises:
        StorageError: the folder cannot be written, or too many runs are going on.
    """
    make_folder(folder)
    names = [name, *(f"{name}.{number}" for number in range(2, _MOST_RUNS + 1))]
    places = [folder / f"{one}{SUFFIX}" for one in names]
    if resume:
        places.sort(key=lambda place: not place.exists())
    for place in places:
        lock = _lock(place)
        if lock is not None:
            return Claim(Journal(place, max_bytes=max_bytes), lock)
    raise StorageError(
        f"{_MOST_RUNS} runs of this machine and stack are going on in {folder}.",
        "Wait until one has ended, or use another folder with --cache-dir.",
    )


def _lock(journal: Path) -> int | None:
    """The lock of a journal, held; None where a live run holds it.

    It is a file of its own, since appending locks the journal itself for a moment. It stays: removing it would let two
    processes lock two different files.
    """
    place = journal.with_suffix(".lock")
    try:
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error("write", place, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise storage_error("lock", place, error) from None
    return handle
