"""Many runs in PostgreSQL, where a team already runs one; the same columns as the Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString
from urllib.parse import urlsplit

import numpy as np

from trtgate.errors import BackendAbsentError, StorageError
from trtgate.store.layout import require_not_newer, require_readable
from trtgate.store.points import COLUMNS, CaseSeries, Coded, StackSummary, entering, points_of, split_series
from trtgate.store.run import Run

if TYPE_CHECKING:
    import psycopg

# The number is that of the layout: a table of each, as there is a folder of each among Parquet files.
_TABLE: LiteralString = """
    CREATE TABLE IF NOT EXISTS trtgate_points_3 (
        stack text NOT NULL,
        case_id text NOT NULL,
        quantity text NOT NULL,
        host text NOT NULL,
        outcome text NOT NULL,
        status text NOT NULL,
        commit_id text NOT NULL,
        recorded_at timestamptz NOT NULL,
        run_digest text NOT NULL,
        run_name text NOT NULL,
        samples integer NOT NULL,
        median double precision,
        q1 double precision,
        q3 double precision,
        record text NOT NULL,
        PRIMARY KEY (run_digest, case_id, quantity)
    );
    CREATE INDEX IF NOT EXISTS trtgate_points_3_series ON trtgate_points_3 (case_id, quantity, stack, recorded_at);
"""
# COPY knows no ON CONFLICT: rows land in a temporary table first, and a run that is known already adds nothing.
_STAGE: LiteralString = "CREATE TEMP TABLE stage (LIKE trtgate_points_3 INCLUDING DEFAULTS) ON COMMIT DROP"
_MERGE: LiteralString = "INSERT INTO trtgate_points_3 SELECT * FROM stage ON CONFLICT DO NOTHING"
_SERIES: LiteralString = """
    SELECT stack, case_id, quantity, host, median, commit_id
    FROM trtgate_points_3
    WHERE outcome = 'measured' AND median > 0
      AND (%(case)s::text IS NULL OR case_id = %(case)s) AND (%(quantity)s::text IS NULL OR quantity = %(quantity)s)
    ORDER BY stack COLLATE "C", case_id COLLATE "C", quantity COLLATE "C", host COLLATE "C",
             recorded_at, run_name, run_digest
"""
_SUMMARY: LiteralString = """
    SELECT stack, count(*), count(*) FILTER (WHERE outcome = 'measured'), count(DISTINCT case_id),
           count(DISTINCT commit_id), min(recorded_at), max(recorded_at)
    FROM trtgate_points_3 GROUP BY stack ORDER BY stack COLLATE "C"
"""
_LAYOUTS: LiteralString = """
    SELECT relname FROM pg_class
    WHERE relname ~ '^trtgate_points(_[0-9]+)?$' AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)
"""
_CONNECT_TIMEOUT_S = 10


class PostgresStore:
    """A database, named by URL; the table is created by the first `ingest`.

    Args:
        url: ``postgresql://user@host/database``; passwords are better left to PGPASSWORD or ~/.pgpass.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ingest(self, runs: Iterable[Run]) -> int:
        """Add runs that are not there yet and did not fail, all or none.

        Returns:
            How many records were added.

        Raises:
            StorageError: the database cannot be reached or refuses.
            RecordError: a newer release has written into it.
        """
        with self._session() as session, session.cursor() as cursor:
            require_not_newer(_layouts(cursor), self._place)
            cursor.execute(_TABLE)
            cursor.execute(_STAGE)
            with cursor.copy("COPY stage FROM STDIN") as copy:
                for run in entering(runs):
                    for point in points_of(run):
                        copy.write_row([point[name] for name in COLUMNS])
            cursor.execute(_MERGE)
            return cursor.rowcount

    def series(self, case: str | None = None, quantity: str | None = None) -> Iterator[CaseSeries]:
        """Histories by stack, case, quantity and host.

        Raises:
            StorageError: the database cannot be reached, or holds no records of ours.
            RecordError: they are of an older or newer layout.
        """
        with self._session() as session, session.cursor() as cursor:
            require_readable(_layouts(cursor), self._place)
            cursor.execute(_SERIES, {"case": case, "quantity": quantity}, binary=True)
            columns = list(zip(*cursor, strict=True))
        if not columns:
            return iter(())
        stacks, cases, quantities, hosts = map(Coded.of, columns[:4])
        medians, commits = columns[4:]
        values = np.asarray(medians, dtype=np.float64)
        return split_series(stacks, cases, quantities, hosts, values, Coded.of(commits))

    def summary(self) -> list[StackSummary]:
        """One line a stack; raises as `series`."""
        with self._session() as session, session.cursor() as cursor:
            require_readable(_layouts(cursor), self._place)
            rows = cursor.execute(_SUMMARY).fetchall()
        return [StackSummary.of_row(row) for row in rows]

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection]:
        try:
            import psycopg
        except ImportError:
            raise BackendAbsentError(
                "A PostgreSQL store needs psycopg, which is not installed.", "Run: pip install 'trtgate[postgres]'."
            ) from None
        try:
            with psycopg.connect(self._url, connect_timeout=_CONNECT_TIMEOUT_S) as session:
                yield session
        except psycopg.Error as error:
            first = (str(error).splitlines() or ["no reason given"])[0]
            raise StorageError(
                f"{self._place} refused: {first}.", "Check the URL, the server and your rights on it."
            ) from None

    @property
    def _place(self) -> str:
        """Names the database without user and password, which must not reach a log."""
        parts = urlsplit(self._url)
        return f"The database {parts.hostname or 'localhost'}{parts.path}"


def _layouts(cursor: psycopg.Cursor) -> set[int]:
    """The layouts of which there is a table; the first had no number."""
    names = [name for (name,) in cursor.execute(_LAYOUTS).fetchall()]
    return {int(name.removeprefix("trtgate_points").removeprefix("_") or 1) for name in names}
