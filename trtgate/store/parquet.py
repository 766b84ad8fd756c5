"""Many runs as Parquet files, one folder a stack, read through DuckDB.

Files are only ever added, each as a whole under a temporary name first, so that readers and copies of the store are
always consistent and a store can be synchronised by any tool that copies files.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtgate.errors import BackendAbsentError, RecordError, UsageError
from trtgate.store.files import make_folder, storage_error, sync_folder
from trtgate.store.layout import LAYOUT, require_not_newer, require_readable
from trtgate.store.locking import folder_lock
from trtgate.store.points import COLUMNS, CaseSeries, Coded, StackSummary, entering, points_of, split_series
from trtgate.store.run import Run

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_MEMORY_LIMIT = "1GB"

# Sorted afterwards by number: DuckDB takes seven times as long to sort a million rows of text.
_SERIES = """
    SELECT stack, case_id, quantity, host, commit_id, median, recorded_at, run_name
    FROM points
    WHERE outcome = 'measured' AND median > 0
      AND ($case IS NULL OR case_id = $case) AND ($quantity IS NULL OR quantity = $quantity)
"""
_SUMMARY = """
    SELECT stack, count(*), count(*) FILTER (outcome = 'measured'), count(DISTINCT case_id),
           count(DISTINCT commit_id), min(recorded_at), max(recorded_at)
    FROM points GROUP BY stack ORDER BY stack
"""


class ParquetStore:
    """A folder of Parquet files.

    Args:
        folder: holds ``layout=3/stack=<name>/<digest>.parquet``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def layouts(self) -> frozenset[int]:
        """What is in the folder: layouts of Parquet stores, none where there is no such store."""
        named = {path.parents[1].name.partition("=")[2] for path in self.folder.glob("layout=*/stack=*/*.parquet")}
        # The first layout had no folder of its own.
        first = {1} if any(self.folder.glob("stack=*/*.parquet")) else set()
        return frozenset(first | {int(name) for name in named if name.isdecimal()})

    def ingest(self, runs: Iterable[Run]) -> int:
        """Add runs that are not there yet and did not fail, one file a stack.

        Returns:
            How many records were added.

        Raises:
            StorageError: the folder cannot be written; what was there is unchanged.
            RecordError: a newer release has written into it.
            BackendAbsentError: DuckDB or pyarrow is not installed.
        """
        _require_packages()
        make_folder(self.folder)
        with folder_lock(self.folder):
            require_not_newer(self.layouts, str(self.folder))
            known = self._digests()
            fresh: dict[str, list[dict[str, Any]]] = {}
            for run in entering(runs):
                points = points_of(run)
                if points[0]["run_digest"] not in known:
                    known.add(points[0]["run_digest"])
                    fresh.setdefault(points[0]["stack"], []).extend(points)
            for stack, points in fresh.items():
                self._add(stack, points)
        return sum(map(len, fresh.values()))

    def series(self, case: str | None = None, quantity: str | None = None) -> Iterator[CaseSeries]:
        """Histories by stack, case, quantity and host.

        Raises:
            StorageError: there is no store.
            RecordError: a file of it is damaged or foreign, or it is of an older or newer layout.
        """
        return query_series(self._connect, case, quantity)

    def summary(self) -> list[StackSummary]:
        """One line a stack; raises as `series`."""
        return query_summary(self._connect)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        require_readable(self.layouts, str(self.folder))
        database = connect()
        # A view cannot take a bound parameter; a relation made by the API quotes the path itself.
        relation = database.read_parquet(str(self._place / "stack=*" / "*.parquet"), hive_partitioning=True)
        missing = set(COLUMNS) - set(relation.columns)
        if missing:
            raise RecordError(
                f"{self.folder} holds Parquet files without the column '{min(missing)}'.",
                "Name a store that trtgate wrote.",
            )
        relation.create_view("points")
        return database

    @property
    def _place(self) -> Path:
        return self.folder / f"layout={LAYOUT}"

    def _digests(self) -> set[str]:
        if LAYOUT not in self.layouts:
            return set()
        with _reading(self._connect) as database:
            return {row[0] for row in database.sql("SELECT DISTINCT run_digest FROM points").fetchall()}

    def _add(self, stack: str, points: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self._place / f"stack={stack}"
        make_folder(folder)
        path = folder / f"{points[0]['run_digest']}.parquet"
        part = path.with_suffix(".part")
        try:
            pq.write_table(table_of(points).drop_columns(["stack"]), part, compression="zstd")
            part.replace(path)
            sync_folder(folder)
        except (OSError, pa.ArrowException) as error:
            part.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise storage_error("write", path, cause) from None


class MemoryStore:
    """Runs that were just read, such as those of a history folder; nothing is kept."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._points = [point for run in entering(runs) for point in points_of(run)]

    def ingest(self, runs: Iterable[Run]) -> int:
        """Refused: a history folder takes runs from pytest and `trtgate.store.history` only."""
        raise UsageError("A history folder cannot take runs from elsewhere.", "Name a Parquet folder or a database.")

    def series(self, case: str | None = None, quantity: str | None = None) -> Iterator[CaseSeries]:
        """Histories by stack, case, quantity and host."""
        return query_series(self._connect, case, quantity)

    def summary(self) -> list[StackSummary]:
        """One line a stack."""
        return query_summary(self._connect)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        database = connect()
        database.from_arrow(table_of(self._points)).create_view("points")
        return database


def table_of(points: Iterable[dict[str, Any]]) -> pa.Table:
    """Points as an Arrow table with the columns of every store."""
    import pyarrow as pa

    kinds = {
        # UTC without a zone: DuckDB's Python client needs pytz for zoned times.
        "recorded_at": pa.timestamp("us"),
        "samples": pa.int32(),
        "median": pa.float64(),
        "q1": pa.float64(),
        "q3": pa.float64(),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    return pa.Table.from_pylist(list(points), schema=schema)


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory that reads files and reaches nothing else.

    Raises:
        BackendAbsentError: DuckDB or pyarrow is not installed.
    """
    _require_packages()
    import duckdb

    return duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "autoinstall_known_extensions": False})


def _require_packages() -> None:
    for package in ("duckdb", "pyarrow"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise BackendAbsentError(
                f"Questions over many runs need the package {package}, which is not installed.",
                "Run: pip install 'trtgate[history]'.",
            ) from None


def query_series(
    connect: Callable[[], duckdb.DuckDBPyConnection], case: str | None, quantity: str | None
) -> Iterator[CaseSeries]:
    """Histories from a database that has the view ``points``."""
    with _reading(connect) as database:
        table = database.sql(_SERIES, params={"case": case, "quantity": quantity}).to_arrow_table()
    stacks, cases, quantities, hosts, commits, runs = (
        _coded(table, name) for name in ("stack", "case_id", "quantity", "host", "commit_id", "run_name")
    )
    times = table.column("recorded_at").to_numpy().astype(np.int64)
    order = np.lexsort((runs.ranks, times, hosts.ranks, quantities.ranks, cases.ranks, stacks.ranks))
    medians = table.column("median").to_numpy().astype(np.float64)[order]
    stacks, cases, quantities, hosts, commits = (
        column.taken(order) for column in (stacks, cases, quantities, hosts, commits)
    )
    return split_series(stacks, cases, quantities, hosts, medians, commits)


def query_summary(connect: Callable[[], duckdb.DuckDBPyConnection]) -> list[StackSummary]:
    """One line a stack from a database that has the view ``points``."""
    with _reading(connect) as database:
        rows = database.sql(_SUMMARY).fetchall()
    return [StackSummary.of_row(row) for row in rows]


def _coded(table: pa.Table, name: str) -> Coded:
    encoded = table.column(name).combine_chunks().dictionary_encode()
    texts = np.asarray(encoded.dictionary.to_pylist(), dtype=object)
    return Coded(encoded.indices.to_numpy().astype(np.int64), texts)


@contextmanager
def _reading(connect: Callable[[], duckdb.DuckDBPyConnection]) -> Iterator[duckdb.DuckDBPyConnection]:
    _require_packages()
    import duckdb

    try:
        with connect() as database:
            yield database
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise RecordError(f"The store cannot be read: {first}.", "Restore or remove the file that it names.") from None
