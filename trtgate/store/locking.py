"""Locks between processes, so that two recorders never clobber each other."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trtgate.errors import StorageError
from trtgate.store.files import storage_error

LOCK_NAME = ".lock"
_POLL_S = 0.02


def acquire(handle: int, path: Path, *, shared: bool = False, timeout_s: float = 60.0) -> None:
    """Lock an open file; the lock ends when the file is closed, also by the death of the process.

    Args:
        handle: file descriptor.
        path: what the user knows it by.
        shared: several readers may hold it at once.
        timeout_s: how long to wait for others.

    Raises:
        StorageError: another process held it all that time, or the file system has no locks.
    """
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    until = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, mode)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                raise storage_error("lock", path, error) from None
        if time.monotonic() > until:
            raise StorageError(
                f"{path} has been locked by another process for {timeout_s:g} s.",
                "Wait until the other run has ended, or end it, and run again.",
            )
        time.sleep(_POLL_S)


@contextmanager
def folder_lock(folder: Path, timeout_s: float = 60.0) -> Iterator[None]:
    """Hold a history folder while numbering, accepting or moving a run.

    The lock is a file of its own (``.lock``), because network file systems refuse to lock a folder. It stays: removing
    it would let two processes lock two different files.

    Raises:
        StorageError: the folder cannot be written, or another process keeps it.
    """
    path = folder / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error("write in", folder, error) from None
    try:
        acquire(handle, folder, timeout_s=timeout_s)
        yield
    finally:
        os.close(handle)
