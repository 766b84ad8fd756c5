"""Parquet, memory and PostgreSQL answer alike."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trtgate.errors import RecordError, StorageError, UsageError
from trtgate.record import Outcome
from trtgate.store.history import RunStatus, accept, load_run, save_run
from trtgate.store.parquet import MemoryStore, ParquetStore
from trtgate.store.points import Coded, points_of, split_series
from trtgate.store.query import open_store

_CASES = ("resnet18-tensorrt_engine-fp16-b8-graph", "vit_b_16-eager-fp32-b1-stream")


@pytest.fixture
def runs(tmp_path, make_record, h100):
    """Five runs of two cases on one stack, one of another stack, with failures among them."""
    made = []
    for number in range(5):
        shared = {"commit": f"{number:040d}", "recorded_at": f"2026-11-2{number}T12:00:00+02:00"}
        records = [make_record(case, median_s=1e-3 * (1 + number), seed=number, **shared) for case in _CASES]
        records.append(make_record(_CASES[0], "latency", outcome=Outcome.FAILED, reason="NaN", **shared))
        made.append(load_run(save_run(tmp_path / "results", records, status=RunStatus.PASSED)))
    elsewhere = make_record(identity=h100.model_copy(update={"gpu": "NVIDIA L4"}), commit=None)
    return [*made, load_run(save_run(tmp_path / "l4", [elsewhere], status=RunStatus.PASSED))]


@pytest.fixture(params=["parquet", "postgres"])
def store(request, tmp_path):
    if request.param == "parquet":
        return ParquetStore(tmp_path / "store")
    return open_store(request.getfixturevalue("database"))


def _plain(store, *which):
    return [(one.stack, one.case, one.quantity, one.medians.tolist(), one.commits) for one in store.series(*which)]


def test_every_store_tells_the_same_as_the_runs(store, runs):
    assert store.ingest(runs) == 16
    memory = MemoryStore(runs)
    told = _plain(store)
    assert told == _plain(memory)
    assert len(told) == 3
    assert told[0][4] == tuple(f"{number:040d}" for number in range(5))
    of_case = [record for run in runs[:5] for record in run.records if record.key == (_CASES[0], "device")]
    medians = [float(np.median(record.series.values)) for record in of_case]
    assert told[0][3] == pytest.approx(medians)
    assert told[2][4] == ("unversioned",)
    assert _plain(store, _CASES[1]) == [told[1]]
    assert _plain(store, None, "latency") == []
    assert store.summary() == memory.summary()
    first = store.summary()[0]
    assert (first.records, first.measured, first.cases, first.commits) == (15, 10, 2, 5)
    assert (first.first, first.last) == ("2026-11-20T10:00:00Z", "2026-11-24T10:00:00Z")


def test_a_run_is_taken_once_also_after_its_acceptance(store, runs):
    assert store.ingest(runs[:2]) == 6
    assert store.ingest(runs[:2]) == 0
    moved = load_run(accept(runs[0].path, "On purpose."))
    assert store.ingest([moved, runs[2], runs[2]]) == 3
    assert len(_plain(store)[0][3]) == 3


def test_names_are_values_and_never_sql(store, runs):
    store.ingest(runs)
    for text in ("'; DROP TABLE trtgate_points_3; --", "x' OR '1'='1", "%", "\\"):
        assert _plain(store, text) == []
    assert len(_plain(store)) == 3


def test_the_whole_record_travels(runs, tmp_path):
    folder = tmp_path / "store"
    ParquetStore(folder).ingest(runs)
    texts = pq.read_table(folder).column("record").to_pylist()
    assert sorted(texts) == sorted(point["record"] for run in runs for point in points_of(run))


def test_parquet_files_are_only_added(runs, tmp_path):
    store = ParquetStore(tmp_path / "store")
    store.ingest(runs[:1])
    before = {path: path.read_bytes() for path in store.folder.rglob("*.parquet")}
    store.ingest(runs[1:])
    assert len(list(store.folder.rglob("*.parquet"))) == 3
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(store.folder.rglob("*.part"))


def test_a_damaged_parquet_file_is_named(runs, tmp_path):
    store = ParquetStore(tmp_path / "store")
    store.ingest(runs)
    victim = next(store.folder.rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(RecordError, match=victim.name):
        store.summary()


def test_a_foreign_parquet_file_is_refused(tmp_path):
    folder = tmp_path / "layout=3" / "stack=x"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), folder / "a.parquet")
    with pytest.raises(RecordError, match="without the column"):
        list(ParquetStore(tmp_path).series())


def test_an_absent_store_says_how_to_fill_it(tmp_path):
    with pytest.raises(StorageError, match="--ingest"):
        ParquetStore(tmp_path).summary()
    with pytest.raises(StorageError, match="holds no run"):
        open_store(str(tmp_path))


def test_a_parquet_store_cannot_grow_where_a_file_stands(runs, tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        ParquetStore(tmp_path / "store").ingest(runs)


def test_a_history_folder_takes_no_runs_from_elsewhere(runs):
    with pytest.raises(UsageError, match="Parquet folder or a database"):
        MemoryStore(runs).ingest(runs)


def test_an_empty_database_says_how_to_fill_it(database):
    with pytest.raises(StorageError, match="--ingest"):
        open_store(database).summary()


def test_a_refused_login_never_shows_the_password(postgres):
    with pytest.raises(StorageError, match="refused") as caught:
        open_store(postgres.replace("/postgres", "/absent")).summary()
    assert "secret" not in str(caught.value)
    assert "tester" not in str(caught.value).split("refused")[0]


def test_a_failed_ingest_leaves_the_database_as_it_was(database, runs):
    store = open_store(database)
    store.ingest(runs[:1])

    def broken():
        yield runs[1]
        raise RecordError("The third file is damaged.", "Restore it.")

    with pytest.raises(RecordError):
        store.ingest(broken())
    assert len(_plain(store)[0][3]) == 1


def test_splitting_nothing_yields_nothing():
    none = Coded.of([])
    assert list(split_series(none, none, none, none, np.empty(0), none)) == []


def test_codes_rank_by_their_texts():
    coded = Coded.of(["b", "a", "b", "c"])
    assert coded.ranks.tolist() == [1, 0, 1, 2]
    assert coded[1:3] == ("a", "b")
