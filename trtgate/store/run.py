"""One stored run, read strictly: a gate must not judge a file that it only half understands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np

from trtgate.errors import RecordError
from trtgate.policy import StoreSettings
from trtgate.record import Identity, Outcome, Record
from trtgate.store import host_format
from trtgate.store.files import parse_json, read_text
from trtgate.store.journal import SUFFIX

_RESTORE: Final = "Restore the file or record it again."
DEFAULT_MAX_BYTES: Final = StoreSettings().max_file_bytes


class RunStatus(StrEnum):
    """What a run may be used for: ACCEPTED and the first PASSED are baselines, FAILED is evidence."""

    PASSED = "passed"
    FAILED = "failed"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run.

    Attributes:
        path: its file.
        status: what it may be used for.
        reason: why it failed or was accepted; empty when it passed.
        commit: commit of its records, None where none was known.
        created_at: ISO 8601 time of the run.
        records: every record, rows first.
        identity: machine and stack; the same for all its records.
    """

    path: Path
    status: RunStatus
    reason: str
    commit: str | None
    created_at: str
    records: tuple[Record, ...]
    identity: Identity

    @property
    def cases(self) -> frozenset[str]:
        """Ids of the cases of which anything ran; a row that was skipped only says what its machine lacks."""
        return frozenset(record.case for record in self.records if record.outcome is not Outcome.SKIPPED)


def load_run(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Run:
    """Read one run.

    Args:
        path: a file that pytest-benchmark or `save_run` wrote.
        max_bytes: refuse a larger file.

    Raises:
        StorageError: the file is missing or unreadable.
        RecordError: damaged, cut off, too large, foreign, of a newer schema, without records, of more than one
            machine, with two records of the same case and quantity, or with samples or a time that cannot be read.
    """
    data = load_document(path, max_bytes)
    top = data[host_format.KEY]
    records = tuple(_records(data, path))
    if not records:
        raise RecordError(f"{path} holds no record.", "Name a run in which something was measured.")
    require_distinct(records, str(path))
    return Run(
        path=path,
        status=RunStatus(top["status"]),
        reason=str(top.get("reason") or ""),
        commit=next((record.commit for record in records if record.commit), None),
        created_at=str(data.get("datetime") or ""),
        records=records,
        identity=only_identity(records, str(path)),
    )


def load_document(path: Path, max_bytes: int) -> dict[str, Any]:
    """Read a file as it is, with the checks that make it one of ours; its records are not looked at.

    Raises:
        StorageError, RecordError: as `load_run`; also a journal is refused, which does not say that its run passed.
    """
    if path.suffix == SUFFIX and path.is_file():
        raise RecordError(
            f"{path} is the journal of a run, not a run that was saved.",
            "Finish the run with 'pytest --resume' and name the file that it saves; 'trtgate report' prints a journal.",
        )
    data = parse_json(read_text(path, max_bytes), str(path))
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise RecordError(f"{path} is not a pytest-benchmark file.", "Name a run below results/.")
    top = data.get(host_format.KEY)
    if not isinstance(top, dict) or not isinstance(top.get("records", []), list):
        raise RecordError(
            f"{path} was written by pytest-benchmark without trtgate.", "Move it out of the history, or name another."
        )
    version = top.get("schema_version", host_format.SCHEMA)
    if not isinstance(version, int) or version > host_format.SCHEMA:
        raise RecordError(
            f"{path} has history schema {version}; this release reads up to {host_format.SCHEMA}.",
            "Install the trtgate release that wrote it, or a newer one.",
        )
    if top.get("status") not in list(RunStatus):  # no set: what stands there may be a list, which has no hash
        raise RecordError(
            f"{path} has the status {top.get('status')!r}, which is none of {', '.join(RunStatus)}.",
            "Restore the file or record it again.",
        )
    return data


def _records(data: dict[str, Any], path: Path) -> Iterable[Record]:
    for number, row in enumerate(data["benchmarks"], start=1):
        if not isinstance(row, dict) or not isinstance(row.get("extra_info", {}), dict):
            raise RecordError(f"{path}, row {number}, is not a benchmark.", "Restore the file or record it again.")
        # A row without our key is a benchmark of the user's own, which ran in the same session.
        if (ours := row.get("extra_info", {}).get(host_format.KEY)) is not None:
            yield _record(ours, f"{path}, row {number},")
    for number, record in enumerate(data[host_format.KEY].get("records", []), start=1):
        yield _record(record, f"{path}, trtgate record {number},")


def _record(data: Any, source: str) -> Record:
    record = Record.from_json(data, source)
    require_readable(record, source)
    return record


def require_readable(record: Record, source: str) -> None:
    """Read a record's samples and time once: what is damaged must show before anything is measured.

    Args:
        record: to be looked at.
        source: where it came from, for the message; ends with a comma.

    Raises:
        RecordError: a sample or the time cannot be read, or a measured time has no sample.
    """
    source = f"{source} '{record.case}', {record.quantity}:"
    try:
        for series in (record.series, *(baseline.series for baseline in record.baselines.values())):
            if series is not None and np.any(series.values < 0):
                raise RecordError("A sample is negative.", _RESTORE)
    except RecordError as error:
        raise RecordError(f"{source} {error.problem}", error.fix) from None
    if host_format.is_row(record) and record.series is not None and not record.series.count:
        raise RecordError(f"{source} A measured time has no sample.", _RESTORE)
    utc(record.recorded_at, source)


def utc(text: str, source: str) -> datetime:
    """A record's time; one without a zone is UTC.

    Raises:
        RecordError: it is not ISO 8601, or so near an end of the calendar that it has no UTC.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise RecordError(f"{source} The time '{text}' is no ISO 8601 time that has a UTC.", _RESTORE) from None


def require_distinct(records: Iterable[Record], source: str) -> None:
    """Refuse two records of the same case and quantity, which a re-run plugin would leave."""
    seen: set[tuple[str, str]] = set()
    for record in records:
        if record.key in seen:
            raise RecordError(
                f"Two records of {source} are '{record.case}', {record.quantity}.",
                "A benchmark must run once a run: switch re-run plugins off and record it again.",
            )
        seen.add(record.key)


def only_identity(records: Sequence[Record], source: str) -> Identity:
    """The machine and stack that all records share; anything else is refused."""
    identity = records[0].identity
    for record in records:
        if record.identity != identity:
            raise RecordError(
                f"The records of {source} come from more than one machine or stack ('{record.case}' differs).",
                "Keep one run to one machine and one installation.",
            )
    return identity
