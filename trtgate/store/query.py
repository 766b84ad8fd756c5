"""Opens whatever holds many runs: a folder of runs, a Parquet store or a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from trtgate.errors import StorageError, UsageError
from trtgate.store.history import load_run, run_paths
from trtgate.store.parquet import MemoryStore, ParquetStore
from trtgate.store.points import Store
from trtgate.store.run import DEFAULT_MAX_BYTES

_DATABASES = ("postgresql://", "postgres://")


def open_store(location: str, *, max_bytes: int = DEFAULT_MAX_BYTES, create: bool = False) -> Store:
    """Open a store by its location.

    Args:
        location: ``postgresql://...``; a folder of Parquet files; or a history folder or one above several.
        max_bytes: refuse larger history files.
        create: the store is to take runs; a folder that is empty or absent becomes a Parquet store.

    Raises:
        StorageError: nothing is there.
        RecordError: a run cannot be read.
        UsageError: a history folder is to take runs, whose own would be ignored from then on.
    """
    if location.startswith(_DATABASES):
        from trtgate.store.postgres import PostgresStore

        return PostgresStore(location)
    folder = Path(location)
    is_parquet = bool(ParquetStore(folder).layouts)
    paths = run_paths(folder) if folder.is_dir() or not (create or is_parquet) else []
    held = [*paths, *(run_paths(folder, rejected=True) if folder.is_dir() else [])]
    if held and (create or is_parquet):
        raise UsageError(
            f"{folder} holds runs as JSON ({held[0].name} is one), and a Parquet store beside them would hide them.",
            f"Keep the two apart, in another folder or a database: trtgate trend --store OTHER --ingest {folder}.",
        )
    if create or is_parquet:
        return ParquetStore(folder)
    if not paths:
        raise StorageError(f"{folder} holds no run.", "Record one with 'pytest --benchmark-autosave'.")
    return MemoryStore(load_run(path, max_bytes=max_bytes) for path in paths)
