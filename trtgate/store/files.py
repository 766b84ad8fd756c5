"""Reading and writing files so that a failure loses nothing and says what to do."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any, NoReturn

from trtgate.artefacts import replace
from trtgate.errors import RecordError, StorageError

_FIXES = {
    errno.ENOSPC: "Free some space or choose another folder, then run again; what was stored before is intact.",
    errno.EDQUOT: "Free some of your quota or choose another folder; what was stored before is intact.",
    errno.EROFS: "Choose a folder on a writable file system.",
    errno.EACCES: "Change its permissions or choose another folder.",
    errno.EPERM: "Change its permissions or choose another folder.",
    errno.ENOTDIR: "One part of that path is a file; choose another folder.",
    errno.EEXIST: "One part of that path is a file; choose another folder.",
    errno.ENOENT: "Check the path.",
    errno.EISDIR: "Name a file, not a folder.",
}

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def storage_error(doing: str, path: Path, error: OSError) -> StorageError:
    """Turn what the operating system says into a sentence and an instruction.

    Args:
        doing: the verb that failed, such as ``write`` or ``read``.
        path: the file or folder that the user knows.
        error: what was raised.
    """
    why = error.strerror or str(error)
    fix = _FIXES.get(error.errno or 0, "Check the disk and the path, then run again.")
    return StorageError(f"Cannot {doing} {path}: {why}.", fix)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        StorageError: it cannot be created, or a file stands in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create the folder", folder, error) from None


def read_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 text file that has a sane size.

    Args:
        path: the file.
        max_bytes: refuse anything larger before reading it.

    Raises:
        StorageError: missing, a folder, or unreadable.
        RecordError: larger than ``max_bytes``, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            # One byte more than allowed tells "too large" even where the size on disk is unknown (a pipe, /proc).
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise storage_error("read", path, error) from None
    if len(data) > max_bytes:
        raise RecordError(
            f"{path} is larger than {max_bytes:,} bytes, which no history of ours is.",
            "Name another file, or raise max_file_bytes in the [store] section of trtgate.toml.",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{path} is not text (byte {error.start} is not UTF-8).", "Restore the file or name another one."
        ) from None


def parse_json(text: str, source: str) -> Any:
    """Parse strict JSON: no NaN, no infinity, no bottomless nesting, no text that cannot be written again.

    Raises:
        RecordError: not JSON, with the line and column; or JSON with a value that no record holds.
    """

    def finite(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else _refuse_constant(digits, source)

    try:
        data = json.loads(text, parse_float=finite, parse_constant=lambda name: _refuse_constant(name, source))
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{source} is damaged or cut off at line {error.lineno}, column {error.colno}: {error.msg}.",
            "Restore the file or record it again.",
        ) from None
    except RecursionError:
        raise RecordError(f"{source} is nested too deeply to be a record.", "Name a file that trtgate wrote.") from None
    except ValueError as error:  # after JSONDecodeError, which is one: Python reads no integer of thousands of digits
        raise RecordError(f"{source} holds a number that cannot be read ({error}).", "Record it again.") from None
    if _SURROGATE.search(text):
        _require_unicode(data, source)
    return data


def _require_unicode(data: Any, source: str) -> None:
    """Refuse half of a surrogate pair, which JSON can spell and UTF-8, and with it every store, cannot."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RecordError(
            f"{source} holds {error.object[error.start]!a}, half of a character.", "Record it again."
        ) from None


def _refuse_constant(name: str, source: str) -> NoReturn:
    raise RecordError(f"{source} holds {name}, which no measurement of ours is.", "Record it again.")


def write_atomic(path: Path, text: str) -> None:
    """Replace a file as a whole: readers see the old text or the new text, also after a crash or on a full disk.

    Raises:
        StorageError: the text could not be written; the old file is untouched.
    """
    try:
        replace(path, text.encode("utf-8"))
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from None


def sync_folder(folder: Path) -> None:
    """Make a new or renamed entry of a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
