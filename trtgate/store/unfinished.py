"""What a journal holds of its last run, for a run that was never saved: evidence to look at, never a baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trtgate.errors import RecordError
from trtgate.record import Identity, Record
from trtgate.store.files import storage_error
from trtgate.store.journal import Journal
from trtgate.store.lines import Entry, Line, Mark, Start
from trtgate.store.run import DEFAULT_MAX_BYTES, require_readable, utc


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """The last run of a journal, with the goes that resumed it.

    Attributes:
        path: the journal.
        records: its rows as they were measured; of those that were measured again, the later one.
        begun_at: time of the first row, UTC.
        commit: revision of the measured tree, None where nobody said.
        cut_off: whether the run was at something when its last line was written; else it may have ended, or not.
    """

    path: Path
    records: tuple[Record, ...]
    begun_at: datetime
    commit: str | None
    cut_off: bool


def load_unfinished(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> UnfinishedRun:
    """Read the last run of a journal; a torn last line is dropped with a `TornLineWarning`.

    Args:
        path: the journal.
        max_bytes: refuse a larger file.

    Raises:
        StorageError: the file is missing or unreadable.
        RecordError: damaged, too large, foreign, of a newer schema, or without a row of its last run.
    """
    try:
        path.stat()  # a journal that is not there has no lines, which is right for the run that begins it
    except OSError as error:
        raise storage_error("read", path, error) from None
    lines = _last_run(Journal(path, max_bytes=max_bytes).lines())
    rows = [line.record for line in lines if isinstance(line, Entry)]
    if not rows:
        raise RecordError(
            f"The last run in the journal {path} has no finished row.",
            "Go on with the run, with 'pytest --resume', or name another journal.",
        )
    for record in rows:
        require_readable(record, f"{path},")
    last = lines[-1]
    return UnfinishedRun(
        path=path,
        records=tuple({record.key: record for record in rows}.values()),
        begun_at=min(utc(record.recorded_at, str(path)) for record in rows),
        commit=rows[-1].commit,
        cut_off=isinstance(last, Mark) and last.stage != "idle",
    )


def _last_run(lines: Iterable[Line]) -> list[Line]:
    """The lines since another machine, stack or code began: ``--resume`` takes over rows of its own alone.

    A run that is not resumed begins a journal of its own, so that beginnings of one origin are goes of one run.
    """
    kept: list[Line] = []
    origin: tuple[Identity, str | None, str] | None = None
    for line in lines:
        if not isinstance(line, Mark):
            by = line if isinstance(line, Start) else line.record
            before, origin = origin, (by.identity, by.commit, line.changes)
            if origin != before:
                kept.clear()
        kept.append(line)
    return kept
