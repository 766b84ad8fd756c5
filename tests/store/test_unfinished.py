"""What is read from the journal of a run that was never saved."""

from datetime import UTC, datetime

import pytest

from trtgate.errors import RecordError, StorageError
from trtgate.record import Outcome, Series
from trtgate.store.claim import claim
from trtgate.store.history import accept, find_baseline, load_run, run_paths
from trtgate.store.journal import Journal, TornLineWarning
from trtgate.store.lines import Entry, Mark, Start
from trtgate.store.unfinished import load_unfinished

CASES = [f"{name}-tensorrt_engine-fp16-b8-graph" for name in ("resnet18", "resnet50", "vit_b_16")]
TIMING = Mark(stage="run", cases=(CASES[0],), node="n", quantity="latency")


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "stack.jsonl")


@pytest.fixture
def written(journal, h100):
    """Writes lines; a record becomes a row, and a commit the beginning of a run."""

    def write(*lines, changes=""):
        for line in lines:
            if isinstance(line, str):
                line = Start(identity=h100, commit=line, changes=changes)
            elif not isinstance(line, Mark | Start):
                line = Entry("node", line, changes)
            journal.write(line)
        return journal.path

    return write


def test_its_rows_are_as_they_were_measured(written, make_record):
    late = make_record(CASES[0], commit="aa", recorded_at="2026-11-22T14:00:02+02:00", baselines={"eager": 1e-3})
    early = make_record(CASES[1], commit="aa", recorded_at="2026-11-22T12:00:01+00:00")
    skipped = make_record(CASES[2], commit="aa", outcome=Outcome.SKIPPED, reason="Needs a GPU.")
    found = load_unfinished(written("aa", late, Mark(stage="idle"), early, skipped, TIMING))
    assert found.records == (late, early, skipped)
    assert found.begun_at == datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    assert (found.commit, found.cut_off) == ("aa", True)


@pytest.mark.parametrize("last", [Mark(stage="idle"), None])
def test_where_nothing_was_going_on_it_does_not_say_that_the_run_was_cut_off(written, make_record, last):
    lines = [make_record(commit="aa"), *filter(None, [last])]
    assert not load_unfinished(written("aa", TIMING, *lines)).cut_off


def test_the_goes_of_one_run_count_together_and_the_later_row_of_two(written, make_record):
    failed = make_record(CASES[0], commit="aa", outcome=Outcome.FAILED, reason="Out of memory.")
    kept, again = make_record(CASES[1], commit="aa"), make_record(CASES[0], commit="aa", seed=1)
    found = load_unfinished(written("aa", failed, kept, TIMING, "aa", again))
    assert found.records == (again, kept)


def test_what_resume_would_refuse_is_another_run(written, make_record, cpu_only):
    rows = [make_record(case, commit="aa") for case in CASES]
    path = written("aa", rows[0], TIMING)
    path = written("aa", rows[1], TIMING, changes="0123")
    assert load_unfinished(path).records == (rows[1],)
    written("bb", make_record(CASES[2], commit="bb"))
    assert load_unfinished(path).commit == "bb"
    elsewhere = make_record(CASES[0], commit="bb", identity=cpu_only)
    written(Start(identity=cpu_only, commit="bb"), elsewhere)
    assert load_unfinished(path).records == (elsewhere,)


def test_journals_of_releases_that_wrote_no_beginnings_are_told_apart_by_their_rows(written, make_record):
    old, new = make_record(CASES[0], commit="aa"), make_record(CASES[1], commit="bb")
    assert load_unfinished(written(old, new)).records == (new,)


def test_a_torn_last_line_is_dropped_aloud(written, make_record):
    path = written("aa", make_record(commit="aa"))
    with path.open("ab") as file:
        file.write(b'{"node":"torn","rec')
    with pytest.warns(TornLineWarning, match="cut off"):
        assert len(load_unfinished(path).records) == 1


def test_without_a_row_there_is_nothing_to_read(written, make_record, journal):
    with pytest.raises(StorageError, match="No such file"):
        load_unfinished(journal.path)
    written("aa", make_record(commit="aa"), TIMING, "bb", TIMING)
    with pytest.raises(RecordError, match="no finished row") as caught:
        load_unfinished(journal.path)
    assert "--resume" in caught.value.fix


def test_damage_is_named(written, make_record, journal):
    whole = make_record()
    damaged = whole.model_copy(update={"series": Series(count=50, packed="AAAA")})
    with pytest.raises(RecordError, match=rf"stack\.jsonl, '{whole.case}', device: A packed series is damaged"):
        load_unfinished(written(damaged))
    with pytest.raises(RecordError, match="larger than 100 bytes"):
        load_unfinished(journal.path, max_bytes=100)
    journal.path.write_text('{"node":\n{}\n')
    with pytest.raises(RecordError, match=r"stack\.jsonl, line 1, is damaged or cut off"):
        load_unfinished(journal.path)


def test_a_journal_is_no_run_and_no_baseline(written, make_record, h100, tmp_path):
    path = written("aa", make_record(commit="aa"))
    before = path.read_bytes()
    for refused in (lambda: load_run(path), lambda: accept(path, "Because.")):
        with pytest.raises(RecordError, match="is the journal of a run") as caught:
            refused()
        assert "pytest --resume" in caught.value.fix
    assert path.read_bytes() == before
    assert run_paths(tmp_path) == []
    assert find_baseline(tmp_path, h100) is None


def test_a_journal_that_a_run_claims_is_read_as_one(tmp_path, make_record):
    held = claim(tmp_path, "stack", max_bytes=10_000, resume=False)
    held.journal.append(make_record())
    assert load_unfinished(held.journal.path).records == (make_record(),)  # while the run goes on
    with pytest.raises(RecordError, match="is the journal"):
        load_run(held.journal.path)
    held.release()
