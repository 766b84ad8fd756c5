"""Records as columns: one point a record, for questions over many runs.

The same columns stand in Parquet files and in PostgreSQL. The record itself travels along as JSON, so nothing is lost.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from trtgate.case import Case
from trtgate.judge.comparability import host_of
from trtgate.record import Record
from trtgate.store.run import Run, RunStatus, utc

COLUMNS = (
    "stack",
    "case_id",
    "quantity",
    "host",
    "outcome",
    "status",
    "commit_id",
    "recorded_at",
    "run_digest",
    "run_name",
    "samples",
    "median",
    "q1",
    "q3",
    "record",
)


@dataclass(frozen=True, slots=True)
class CaseSeries:
    """The history of one quantity of one case on one stack and, where the host matters to it, one host; oldest first.

    Attributes:
        stack: history folder name of the machine and stack.
        case: id.
        quantity: name.
        host: what else the figures depend on, in words; empty where they do not, and runs of all hosts are one history.
        medians: one a run, in the quantity's unit, shape (runs,).
        commits: one a run; ``unversioned`` where it was not known.
    """

    stack: str
    case: str
    quantity: str
    host: str
    medians: npt.NDArray[np.float64]
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StackSummary:
    """What is stored of one machine and stack."""

    stack: str
    records: int
    measured: int
    cases: int
    commits: int
    first: str
    last: str

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Self:
        """From a row of SQL: the fields in their order, the last two as times (UTC where they have no zone)."""
        stack, records, measured, cases, commits, first, last = row
        return cls(stack, records, measured, cases, commits, _spell(first), _spell(last))


class Store(Protocol):
    """Many runs, wherever they are kept."""

    def ingest(self, runs: Iterable[Run]) -> int:
        """Add runs that are not there yet and did not fail; returns how many records were added."""
        ...

    def series(self, case: str | None = None, quantity: str | None = None) -> Iterator[CaseSeries]:
        """Histories by stack, case, quantity and host; all of them, or those of one case or quantity."""
        ...

    def summary(self) -> list[StackSummary]:
        """One line a stack."""
        ...


def entering(runs: Iterable[Run]) -> Iterator[Run]:
    """The runs that passed or were accepted.

    One that failed stays out of the stores altogether: what is stored is not taken again, and it may be accepted later.
    """
    return (run for run in runs if run.status is not RunStatus.FAILED)


def points_of(run: Run) -> list[dict[str, Any]]:
    """Rows of one run, keyed by `COLUMNS`.

    Raises:
        RecordError: a record's samples or time cannot be read.
    """
    texts = [_canonical(record) for record in run.records]
    # Of the records alone: accepting a run changes its file, but not what was measured.
    digest = hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:32]
    return [
        {
            "stack": record.identity.folder,
            "case_id": record.case,
            "quantity": str(record.quantity),
            "host": host_of(record.identity, record.quantity, Case.parse(record.case)),
            "outcome": str(record.outcome),
            "status": str(run.status),
            "commit_id": record.commit or "unversioned",
            "recorded_at": utc(record.recorded_at, f"{run.path}:"),
            "run_digest": digest,
            "run_name": run.path.name,
            **_statistics(record),
            "record": text,
        }
        for record, text in zip(run.records, texts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Coded:
    """A text column as whole numbers and the texts they stand for: a million points share a few thousand texts.

    Attributes:
        codes: one a point, shape (points,).
        texts: by code, shape (texts,).
    """

    codes: npt.NDArray[np.int64]
    texts: npt.NDArray[np.object_]

    @classmethod
    def of(cls, values: Iterable[str]) -> Self:
        """Number the texts in the order in which they appear."""
        known: dict[str, int] = {}
        codes = [known.setdefault(value, len(known)) for value in values]
        return cls(np.asarray(codes, dtype=np.int64), np.asarray(list(known), dtype=object))

    @property
    def ranks(self) -> npt.NDArray[np.int64]:
        """One a point: where its text stands in alphabetical order."""
        rank = np.empty(len(self.texts), dtype=np.int64)
        rank[np.argsort(self.texts)] = np.arange(len(self.texts))
        return rank[self.codes]

    def taken(self, order: npt.NDArray[np.int64]) -> Coded:
        """The points in another order."""
        return Coded(self.codes[order], self.texts)

    def __getitem__(self, place: slice) -> tuple[str, ...]:
        return tuple(self.texts[self.codes[place]].tolist())


def split_series(
    stacks: Coded, cases: Coded, quantities: Coded, hosts: Coded, medians: npt.NDArray[np.float64], commits: Coded
) -> Iterator[CaseSeries]:
    """Cut sorted columns of equal length where stack, case, quantity or host changes.

    Args:
        stacks: sorted by this first.
        cases: then by this.
        quantities: then by this.
        hosts: then by this, then by time.
        medians: shape (points,).
        commits: one a point.
    """
    if not len(medians):
        return
    parts = (stacks, cases, quantities, hosts)
    keys = np.stack([part.codes for part in parts])
    changes = np.any(keys[:, 1:] != keys[:, :-1], axis=0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(medians)]
    for start, end in itertools.pairwise(edges):
        stack, case, quantity, host = (part[start : start + 1][0] for part in parts)
        yield CaseSeries(stack, case, quantity, host, medians[start:end], commits[start:end])


def _canonical(record: Record) -> str:
    return json.dumps(record.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _statistics(record: Record) -> dict[str, float | int | None]:
    if record.series is None or record.series.count == 0:
        return {"samples": 0, "median": None, "q1": None, "q3": None}
    q1, median, q3 = np.quantile(record.series.values, [0.25, 0.5, 0.75])
    return {"samples": record.series.count, "median": float(median), "q1": float(q1), "q3": float(q3)}


def _spell(time: datetime) -> str:
    utc = time.astimezone(UTC) if time.tzinfo is not None else time
    return f"{utc:%Y-%m-%dT%H:%M:%SZ}"
