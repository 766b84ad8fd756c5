"""One gate on a GPU at a time: two would each see the other's work as noise, or as a regression."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from trtgate.errors import EnvironmentInvalidError, StorageError

# Not the environment's own folder for temporary files: that may be another one for every job.
_FOLDER: Final = Path("/tmp")  # noqa: S108 - no file is read from it
_LONGEST_WAIT_S: Final = 1800.0  # two gates of a large suite
_POLL_S: Final = 0.5


@contextlib.contextmanager
def whole_gpu(
    uuid: str | None, say: Callable[[str], None], folder: Path = _FOLDER, longest_wait_s: float = _LONGEST_WAIT_S
) -> Iterator[None]:
    """Hold a GPU, once those who hold it have let go; they do so when they and their workers end, however they end.

    Gates in containers with a ``/tmp`` of their own do not see each other.

    Args:
        uuid: of the GPU, the same for every process of this machine; None holds nothing.
        say: told once that it has to wait.
        folder: of the lock files, which stay: removing one would let two processes lock two different files.
        longest_wait_s: then it gives up.

    Raises:
        EnvironmentInvalidError: somebody held it all that time.
        StorageError: the lock file cannot be made.
    """
    if uuid is None:
        yield
        return
    handle = _opened(folder / f"trtgate-{uuid}.lock")
    try:
        _wait(handle, uuid, say, longest_wait_s)
        # A gate that is killed leaves workers that build or measure to the end of their request: they hold it too.
        os.set_inheritable(handle, True)
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            # Without O_CREAT: Linux refuses that for another user's file in a folder that everybody may write to.
            return os.open(path, flags)
        except FileNotFoundError:
            return os.open(path, flags | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be opened ({error.strerror}).", "Remove it while no gate runs, or make it readable."
        ) from None


def _wait(handle: int, uuid: str, say: Callable[[str], None], longest_s: float) -> None:
    until = time.monotonic() + longest_s
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise EnvironmentInvalidError(
                    f"Another gate has held {uuid} for {longest_s:g} s.",
                    "Wait until it has ended, or give each gate a GPU of its own with CUDA_VISIBLE_DEVICES.",
                ) from None
        if not said:
            say(f"waiting for another gate on {uuid}")
            said = True
        time.sleep(min(_POLL_S, longest_s / 4))
