"""Stores of every kind; PostgreSQL is a real server."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from trtgate.store.parquet import MemoryStore
from trtgate.store.query import open_store


@pytest.fixture(scope="session")
def postgres():
    """URL of a real server on loopback, started for these tests."""
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    programs = next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra 'postgres')")
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    # initdb refuses to run as root, and another user cannot enter pytest's own temporary folders.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="trtgate-postgres-"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder, timeout=60)

    data = str(folder / "data")
    call(str(programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    yield f"postgresql://tester:secret@127.0.0.1:{port}/postgres"
    call(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def database(postgres):
    """URL of a database without records."""
    import psycopg

    with psycopg.connect(postgres) as session:
        session.execute("DROP TABLE IF EXISTS trtgate_points, trtgate_points_2, trtgate_points_3, trtgate_points_4")
    return postgres


@pytest.fixture(params=["memory", "parquet", "postgres"])
def filled(request, tmp_path):
    """Puts runs into a store of each kind."""

    def fill(runs):
        if request.param == "memory":
            return MemoryStore(runs)
        location = str(tmp_path / "store") if request.param == "parquet" else request.getfixturevalue("database")
        store = open_store(location, create=True)
        store.ingest(runs)
        return open_store(location)

    return fill
