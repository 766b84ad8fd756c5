"""Histories: one folder a GPU and stack, one file a run, in pytest-benchmark's own format.

A run enters as ``passed`` or ``failed``. The baseline is the run that a person accepted last, and until there is one
the first that passed. Failed runs are kept apart in ``rejected/``, where neither pytest-benchmark nor trtgate looks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trtgate.errors import RecordError, StorageError, UsageError
from trtgate.judge.comparability import stack_differences
from trtgate.record import Identity, Record
from trtgate.store import host_format
from trtgate.store.files import make_folder, storage_error, write_atomic
from trtgate.store.locking import folder_lock
from trtgate.store.run import (
    DEFAULT_MAX_BYTES,
    Run,
    RunStatus,
    load_document,
    load_run,
    only_identity,
    require_distinct,
)

__all__ = [
    "REJECTED",
    "Run",
    "RunStatus",
    "accept",
    "conclude",
    "find_baseline",
    "load_run",
    "merge",
    "next_number",
    "quarantine",
    "resolve",
    "run_paths",
    "same_stack",
    "save_run",
]

REJECTED: Final = "rejected"
_NUMBERED = re.compile(r"(?P<number>[0-9]{4})_.*\.json")
_LAST_NUMBER: Final = 9999


def run_paths(folder: Path, *, rejected: bool = False) -> list[Path]:
    """Runs of a history folder, oldest first.

    pytest-benchmark saves one level lower, in a folder named after the interpreter; both levels are listed.

    Args:
        folder: a history folder, or one above several of them.
        rejected: list the runs that were set apart instead.

    Raises:
        StorageError: the folder is missing or unreadable.
    """
    if not folder.is_dir():
        raise StorageError(f"There is no history folder {folder}.", "Record a run first, or name another folder.")
    found = [path for path in folder.rglob("[0-9]*.json") if _NUMBERED.fullmatch(path.name) and path.is_file()]
    kept = [path for path in found if (path.parent.name == REJECTED) is rejected]
    return sorted(kept, key=lambda path: (path.name, path))


def resolve(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Path:
    """The run that an argument names: a file is itself, a folder its newest run that did not fail.

    Raises:
        StorageError: the folder holds no run that passed or was accepted.
    """
    if not path.is_dir():
        return path
    for candidate in reversed(run_paths(path)):
        if load_run(candidate, max_bytes=max_bytes).status is not RunStatus.FAILED:
            return candidate
    raise StorageError(f"{path} holds no run that passed or was accepted.", "Name a run, or record one first.")


def same_stack(one: Identity, other: Identity) -> bool:
    """Whether runs of two machines may be compared at all; `judge` then decides for each quantity."""
    return not stack_differences(one, other)


def find_baseline(
    folder: Path,
    identity: Identity,
    *,
    cases: Collection[str] = (),
    before: Path | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Path | None:
    """The run to compare with on this machine and stack, or None.

    It is the run that a person accepted last. Until there is one it is the *first* that passed: a later one never takes
    its place by itself, since a slower run passes too. Where the cases are named, a run that holds none of them is no
    baseline, and of the accepted ones those that hold the most come first, so that a part does not hide a whole.

    A file that cannot be read stops the search with its error: stepping over it would move the baseline in silence.

    Args:
        folder: the history folder.
        identity: the machine and stack to compare on.
        cases: ids that are about to be measured; empty for any.
        before: leave out this run and every later one.
        max_bytes: refuse larger files.
    """
    paths = run_paths(folder) if folder.is_dir() else []
    if before is not None:
        paths = [path for path in paths if path.name < before.name]
    wanted = frozenset(cases)

    def held(path: Path) -> int:
        """How many of the wanted cases a run holds; 0 where it is of another machine."""
        run = load_run(path, max_bytes=max_bytes)
        if not same_stack(run.identity, identity):
            return 0
        return len(wanted & run.cases) if wanted else 1

    tops = {path: load_document(path, max_bytes)[host_format.KEY] for path in paths}
    accepted = [path for path in paths if tops[path]["status"] == RunStatus.ACCEPTED]
    accepted.sort(key=lambda path: (str(tops[path].get("accepted_at", "")), path.name), reverse=True)
    best = max(accepted, key=held, default=None)  # of those that hold as many, the first
    if best is not None and held(best):
        return best
    return next((path for path in paths if tops[path]["status"] == RunStatus.PASSED and held(path)), None)


def save_run(
    folder: Path,
    records: Iterable[Record],
    *,
    status: RunStatus,
    reason: str = "",
    nodes: Mapping[tuple[str, str], str] | None = None,
) -> Path:
    """Write a run under the next free number, without pytest.

    Args:
        folder: the history folder, ``results/<identity.folder>``; a failed run goes to its ``rejected/``.
        records: of one machine and stack.
        status: whether it may be a baseline.
        reason: why it failed or was accepted.
        nodes: pytest node id by record key, so that pytest-benchmark finds the rows again.

    Returns:
        The new file.

    Raises:
        RecordError: no records, two of the same key, or of different machines.
        StorageError: the folder cannot be written; nothing in it has changed.
    """
    kept = tuple(records)
    if not kept:
        raise RecordError("There is no record to save.", "Measure something first.")
    require_distinct(kept, "the new run")
    only_identity(kept, "the new run")
    now = datetime.now(UTC)
    others = (record for record in kept if not host_format.is_row(record))
    top = host_format.section(status, reason, others)
    text = host_format.dump(host_format.document(kept, top, now.isoformat(), nodes or {}))
    target = folder / REJECTED if status is RunStatus.FAILED else folder
    make_folder(target)
    commit = next((record.commit for record in kept if record.commit), None) or "unversioned"
    with folder_lock(folder):
        path = target / f"{next_number(target)}_{_safe(commit)}_{now:%Y%m%d_%H%M%S}.json"
        write_atomic(path, text)
    return path


def next_number(folder: Path) -> str:
    """The next free run number of a folder; hold its `folder_lock` until the file is written.

    Raises:
        StorageError: all four-digit numbers are used, beyond which pytest-benchmark sorts wrongly.
    """
    matches = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir())
    last = max((int(match["number"]) for match in matches if match), default=0)
    if last >= _LAST_NUMBER:
        raise StorageError(
            f"{folder} has a run number {last}, the last one there is.",
            "Move old runs into a Parquet store ('trtgate trend --ingest') and start a new folder.",
        )
    return f"{last + 1:04d}"


def accept(path: Path, reason: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Path:
    """Make a run the baseline, with a reason; a run in ``rejected/`` returns to its folder under a new number.

    Returns:
        Where the run is now.

    Raises:
        UsageError: no reason.
        RecordError: the run cannot be read, its samples included.
        StorageError: the folder cannot be written; the run is unchanged.
    """
    if not reason.strip():
        raise UsageError("No reason was given.", "Write why this run may become the baseline: --reason '...'.")
    load_run(path, max_bytes=max_bytes)
    folder = path.parent.parent if path.parent.name == REJECTED else path.parent
    with folder_lock(folder):
        data = load_document(path, max_bytes)
        accepted_at = datetime.now(UTC).isoformat(timespec="seconds")
        data[host_format.KEY] |= {"status": RunStatus.ACCEPTED, "reason": reason.strip(), "accepted_at": accepted_at}
        target = path if folder == path.parent else folder / f"{next_number(folder)}_{_without_number(path.name)}"
        write_atomic(target, host_format.dump(data))
        if target != path:
            path.unlink()
    return target


def conclude(path: Path, status: RunStatus, reason: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
    """Write into a run's file how the run ended, which nobody else writes meanwhile.

    Raises:
        RecordError: the file is not a run.
        StorageError: it cannot be written; the run stays as it was.
    """
    data = load_document(path, max_bytes)
    data[host_format.KEY] |= {"status": status, "reason": reason}
    write_atomic(path, host_format.dump(data))


def quarantine(path: Path, reason: str = "", *, max_bytes: int = DEFAULT_MAX_BYTES) -> Path:
    """Mark a run as failed and move it to ``rejected/`` beside it, so that it never becomes anyone's latest run.

    Raises:
        RecordError: the file is not a run.
        StorageError: it cannot be moved.
    """
    if path.parent.name == REJECTED:
        return path
    rejected = path.parent / REJECTED
    make_folder(rejected)
    with folder_lock(path.parent):
        data = load_document(path, max_bytes)
        data[host_format.KEY] |= {"status": RunStatus.FAILED, "reason": reason or data[host_format.KEY]["reason"]}
        target = rejected / path.name
        if target.exists():
            target = rejected / f"{next_number(rejected)}_{_without_number(path.name)}"
        write_atomic(target, host_format.dump(data))
        try:
            path.unlink()
        except OSError as error:
            raise storage_error("move", path, error) from None
    return target


def merge(runs: Sequence[Iterable[Record]]) -> list[Record]:
    """Join a matrix that was recorded in several goes; where two hold the same key, the later one counts.

    Raises:
        RecordError: nothing to join, or records of different machines or commits.
    """
    records = [record for run in runs for record in run]
    if not records:
        raise RecordError("There is no record to merge.", "Name runs in which something was measured.")
    only_identity(records, "the merged run")
    commits = {record.commit for record in records}
    if len(commits) > 1:
        named = ", ".join(sorted(str(commit) for commit in commits))
        raise RecordError(f"The runs to merge are of different commits: {named}.", "Merge runs of one commit only.")
    return list({record.key: record for record in records}.values())


def _safe(commit: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]", "-", commit)[:40]


def _without_number(name: str) -> str:
    return name.split("_", 1)[1]
