"""Stores that an older or a newer release wrote."""

import pyarrow.parquet as pq
import pytest

from trtgate.errors import RecordError
from trtgate.store.history import RunStatus, load_run, save_run
from trtgate.store.layout import LAYOUT
from trtgate.store.parquet import table_of
from trtgate.store.points import points_of
from trtgate.store.query import open_store


@pytest.fixture
def saved(tmp_path, make_record):
    """One run."""
    return load_run(save_run(tmp_path / "results", [make_record()], status=RunStatus.PASSED))


@pytest.fixture(params=["parquet", "postgres"])
def written_by(request, tmp_path, saved):
    """Makes a store of a layout without the help of any release; returns its location."""

    def parquet(layout: int) -> str:
        folder = tmp_path / "store" / (f"layout={layout}" if layout > 1 else "") / "stack=h100"
        folder.mkdir(parents=True)
        pq.write_table(table_of(points_of(saved)).drop_columns(["stack", "host"]), folder / "a.parquet")
        return str(tmp_path / "store")

    def postgres(layout: int) -> str:
        import psycopg

        url = request.getfixturevalue("database")
        with psycopg.connect(url) as session:
            session.execute(f"CREATE TABLE trtgate_points{f'_{layout}' if layout > 1 else ''} (stack text)")
        return url

    return {"parquet": parquet, "postgres": postgres}[request.param]


def _questions(store):
    return [lambda: list(store.series()), store.summary]


def test_a_store_that_knows_no_hosts_is_refused_and_its_runs_can_be_added_again(written_by, saved):
    location = written_by(1)
    for ask in _questions(open_store(location)):
        with pytest.raises(RecordError, match=r"has store layout 1, which keeps less apart.*--ingest"):
            ask()
    store = open_store(location, create=True)
    assert store.ingest([saved]) == 1
    assert [one.commits for one in open_store(location).series()] == [(saved.commit,)]
    assert store.ingest([saved]) == 0


def test_a_store_of_a_newer_release_is_neither_read_nor_written(written_by, saved):
    location = written_by(LAYOUT + 1)
    store = open_store(location)
    for ask in [*_questions(store), lambda: store.ingest([saved])]:
        with pytest.raises(RecordError, match=r"has store layout 4; this release reads up to 3\..*newer") as caught:
            ask()
        assert "secret" not in str(caught.value)
