"""The folder that belongs to one gate alone: its checkouts and its engines, gone when it ends.

Nothing in it is ever used again: an engine of an earlier run would hide what a change does, and a checkout that another
gate or another clone of the repository shares can be changed or taken away under this one. A gate holds a lock in its
folder for as long as it lives, so that the next one can tell what a killed gate left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trtgate.errors import StorageError
from trtgate.gate.git import git, run_git
from trtgate.store.locking import folder_lock

TREES: Final = "trees"
"""Folder of the checkouts, below a gate's own."""
_PREFIX: Final = "gate-"
_LOCK: Final = "lives.lock"


@contextlib.contextmanager
def gate_folder(cache: Path) -> Iterator[Path]:
    """Make a folder, empty at first, and sweep what killed gates left.

    Args:
        cache: where to make it; made itself where it is not there.

    Raises:
        StorageError: the cache cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Held until the new folder has its lock: without one it would look like something that a dead gate left.
        with folder_lock(cache):
            _sweep(cache)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=cache))
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        raise StorageError(
            f"{cache} cannot be written ({error.strerror}).", "Name a writable folder with --cache."
        ) from None
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(handle)


def _sweep(cache: Path) -> None:
    for left in cache.glob(f"{_PREFIX}*/{_LOCK}"):
        with left.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its gate lives
            _remove(left.parent)


def _remove(folder: Path) -> None:
    for tree in (folder / TREES).glob("*"):
        # By its own repository, which keeps a list of its worktrees. The repository may be gone by now.
        if common := git(tree, "rev-parse", "--git-common-dir"):
            run_git(tree / common, "worktree", "remove", "--force", str(tree))
    shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed now is swept by the next gate
