"""Opens whatever holds many runs: a folder of runs, a Parquet store or a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from trtgate.errors import StorageError
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
        create: a folder that holds neither is to become a Parquet store.

    Raises:
        StorageError: nothing is there.
        RecordError: a run cannot be read.
    """
    if location.startswith(_DATABASES):
        from trtgate.store.postgres import PostgresStore

        return PostgresStore(location)
    folder = Path(location)
    if create or any(folder.glob("stack=*/*.parquet")):
        return ParquetStore(folder)
    paths = run_paths(folder)
    if not paths:
        raise StorageError(f"{folder} holds no run.", "Record one with 'pytest --benchmark-autosave'.")
    return MemoryStore(load_run(path, max_bytes=max_bytes) for path in paths)
