"""A run enters a history only after it passed or was accepted, in every store."""

import pytest

from trtgate.store.history import RunStatus, accept, conclude, load_run, quarantine, run_paths, save_run
from trtgate.store.query import open_store


@pytest.fixture
def paths(tmp_path, make_record):
    """Five runs that passed, of commits 0 to 4."""
    return [
        save_run(
            tmp_path / "results",
            [make_record(commit=str(day), recorded_at=f"2026-11-2{day}T12:00:00+00:00")],
            status=RunStatus.PASSED,
        )
        for day in range(5)
    ]


def _commits(store):
    return [one.commits for one in store.series()]


def test_a_run_that_failed_is_in_no_history_wherever_its_file_is(paths, filled):
    conclude(paths[1], RunStatus.FAILED, "The run ended before it was judged.")  # still where it was recorded
    paths[3] = quarantine(paths[3], "Slower.")
    assert paths[3].parent.name == "rejected"
    store = filled([load_run(path) for path in paths])
    assert _commits(store) == [("0", "2", "4")]
    assert store.summary()[0].records == 3


def test_a_run_that_is_accepted_enters_although_it_was_offered_before(paths, filled):
    paths[3] = quarantine(paths[3], "Slower.")
    filled([load_run(path) for path in paths])
    paths[3] = accept(paths[3], "On purpose.")
    assert _commits(filled([load_run(path) for path in paths])) == [("0", "1", "2", "3", "4")]


def test_failed_runs_alone_are_no_history(paths, tmp_path):
    for path in paths:
        conclude(path, RunStatus.FAILED, "Killed.")
    store = open_store(str(tmp_path / "results"))
    assert (_commits(store), store.summary()) == ([], [])
    kept = open_store(str(tmp_path / "store"), create=True)
    assert kept.ingest(map(load_run, run_paths(tmp_path / "results"))) == 0
    assert not list(tmp_path.rglob("*.parquet"))
