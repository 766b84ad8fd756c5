"""The append-only journal: every row is on disk as soon as it is measured, and what is risky before it is done.

One line of JSON a row, and between them how each run began and what it was about to do (`trtgate.store.lines`). A
process that dies loses at most what it was measuring; the line that it was writing is recognised by its missing line
feed.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trtgate.errors import RecordError, TrtgateWarning
from trtgate.policy import StoreSettings
from trtgate.record import Record
from trtgate.store.files import make_folder, parse_json, storage_error, sync_folder
from trtgate.store.lines import Entry, Line, parse
from trtgate.store.locking import acquire

SUFFIX: Final = ".jsonl"
"""By which a journal is told from a stored run."""
_TAIL_BYTES = 65_536


class TornLineWarning(TrtgateWarning):
    """The last line of a journal was cut off, because its writer died; it is dropped."""


class Journal:
    """A file of lines that several processes may append to at once.

    Args:
        path: the file; it and its folders are created by the first line.
        max_bytes: refuse to read a larger file.
    """

    def __init__(self, path: Path, *, max_bytes: int = StoreSettings().max_file_bytes) -> None:
        self.path = path
        self.max_bytes = max_bytes

    def append(self, record: Record, node: str = "", changes: str = "") -> None:
        """Add one row, as `write` does."""
        self.write(Entry(node, record, changes))

    def write(self, line: Line) -> None:
        """Add one line and return once it is on the disk.

        Raises:
            StorageError: the disk is full, the folder read-only, or the file locked; earlier lines are intact.
        """
        text = json.dumps(line.to_json(), allow_nan=False, separators=(",", ":")) + "\n"
        make_folder(self.path.parent)
        try:
            with self._opened(os.O_RDWR | os.O_APPEND | os.O_CREAT) as handle:
                size = self._without_torn_tail(handle)
                try:
                    _write_all(handle, text.encode("utf-8"))
                    os.fsync(handle)
                except OSError:
                    # A full disk may have taken half the line: take it back while the lock is held.
                    if os.fstat(handle).st_size > size:
                        os.ftruncate(handle, size)
                    raise
                if size == 0:
                    sync_folder(self.path.parent)
        except OSError as error:
            raise storage_error("append to the journal", self.path, error) from None

    def lines(self) -> list[Line]:
        """All whole lines, in the order in which they were written; none if there is no journal yet.

        Raises:
            RecordError: a line other than a torn last one is damaged, foreign or of a newer schema; names the line.
            StorageError: the file cannot be read.
        """
        try:
            with self._opened(os.O_RDONLY, shared=True) as handle, os.fdopen(os.dup(handle), "rb") as file:
                data = file.read(self.max_bytes + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error("read the journal", self.path, error) from None
        if len(data) > self.max_bytes:
            raise RecordError(
                f"The journal {self.path} is larger than {self.max_bytes:,} bytes.",
                "Start a new one, or raise max_file_bytes in the [store] section of trtgate.toml.",
            )
        *lines, tail = data.split(b"\n")
        if tail:
            self._warn_of_torn_line(len(tail))
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def entries(self) -> list[Entry]:
        """The rows of `lines`."""
        return [line for line in self.lines() if isinstance(line, Entry)]

    def records(self) -> list[Record]:
        """The records of `entries`."""
        return [entry.record for entry in self.entries()]

    def set_aside(self, kept: int = StoreSettings().kept_journals) -> Path | None:
        """Rename the journal, so that a new run starts an empty one and nothing is lost; the oldest make room.

        Args:
            kept: how many that were set aside stay, this one included.

        Returns:
            The new path, or None if there was no journal.

        Raises:
            StorageError: it cannot be renamed, or an old one not be removed.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        aside = self.path.with_name(f"{self.path.stem}.{stamp}{self.path.suffix}")
        try:
            with self._opened(os.O_RDWR):
                self.path.rename(aside)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error("rename the journal", self.path, error) from None
        for old in self._set_aside()[:-kept]:
            try:
                old.unlink(missing_ok=True)  # another process may have made room too
            except OSError as error:
                raise storage_error("remove the old journal", old, error) from None
        return aside

    def _set_aside(self) -> list[Path]:
        """Journals of this name that were set aside, the oldest first."""
        name = re.compile(rf"{re.escape(self.path.stem)}\.\d{{8}}T\d{{6}}\.\d{{6}}{re.escape(self.path.suffix)}")
        return sorted(path for path in self.path.parent.iterdir() if name.fullmatch(path.name))

    @contextmanager
    def _opened(self, flags: int, *, shared: bool = False) -> Iterator[int]:
        """Open and lock the file that bears the journal's name at the moment of locking."""
        while True:
            handle = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
            try:
                acquire(handle, self.path, shared=shared)
                # While this process waited for the lock, another may have set the journal aside.
                if self._is_current(handle):
                    yield handle
                    return
            finally:
                os.close(handle)

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _without_torn_tail(self, handle: int) -> int:
        """Cut off a last line without its line feed; return the size that is left."""
        size = os.fstat(handle).st_size
        end = size
        while end > 0:
            start = max(0, end - _TAIL_BYTES)
            position = os.pread(handle, end - start, start).rfind(b"\n")
            if position >= 0:
                end = start + position + 1
                break
            end = start
        if end < size:
            self._warn_of_torn_line(size - end)
            os.ftruncate(handle, end)
        return end

    def _warn_of_torn_line(self, size: int) -> None:
        warnings.warn(
            f"The last line of {self.path} ({size} bytes) was cut off when its writer died; it is dropped. "
            "Measure that benchmark again.",
            TornLineWarning,
            stacklevel=4,
        )

    def _parse(self, line: bytes, number: int) -> Line:
        source = f"{self.path}, line {number},"
        try:
            data = parse_json(line.decode("utf-8"), source)
        except UnicodeDecodeError:
            raise RecordError(f"{source} is not text.", "Restore the file or record it again.") from None
        return parse(data, source)


def _write_all(handle: int, data: bytes) -> None:
    """Write in one call, which concurrent readers see whole; go on only where the system took less."""
    while data:
        data = data[os.write(handle, data) :]
