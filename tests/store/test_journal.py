"""The journal loses at most the line that a dying process was writing."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from trtgate.errors import RecordError, StorageError
from trtgate.policy import StoreSettings
from trtgate.store.journal import Journal, TornLineWarning
from trtgate.store.lines import Entry, Mark, Start

_WRITER = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from trtgate.record import Record
    from trtgate.store.journal import Journal
    record = Record.from_json(json.loads(sys.stdin.read()), "stdin")
    journal = Journal(Path(sys.argv[1]))
    print("ready", flush=True)
    number = 0
    while True:
        journal.append(record, node=f"{sys.argv[2]}-{number}")
        number += 1
        print(number, flush=True)
    """
)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "deep" / "journal.jsonl")


def test_what_was_appended_comes_back_in_order(journal, make_record):
    one, two = make_record(baselines={"eager": 1e-3}), make_record(quantity="latency")
    journal.append(one, node="test_device[a]")
    journal.append(two, node="test_latency[a]")
    assert journal.records() == [one, two]
    assert [entry.node for entry in journal.entries()] == ["test_device[a]", "test_latency[a]"]


def test_lines_without_a_record_come_back_and_are_no_rows(journal, make_record):
    record = make_record()
    mark = Mark(stage="run", cases=("a", "b"), node="test_latency[a]", quantity="latency")
    start = Start(identity=record.identity, commit="0123abc", changes="aaaa", died=mark)
    written = [start, Mark(stage="idle"), Entry("test_device[a]", record), mark]
    for line in written:
        journal.write(line)
    assert journal.lines() == written
    assert journal.entries() == [written[2]]
    assert journal.records() == [record]


def test_no_journal_is_an_empty_journal(journal):
    assert journal.records() == []
    assert journal.set_aside() is None


def test_a_line_says_what_differed_from_its_commit_and_an_older_one_does_not(journal, make_record):
    journal.append(make_record(), node="n", changes="0123abcd")
    journal.append(make_record(), node="n")
    lines = journal.path.read_text().splitlines()
    older = {name: value for name, value in json.loads(lines[0]).items() if name != "changes"}
    foreign = json.loads(lines[0]) | {"changes": 5}
    journal.path.write_text("\n".join([*lines, json.dumps(older), ""]))
    assert [entry.changes for entry in journal.entries()] == ["0123abcd", "", ""]
    journal.path.write_text(json.dumps(foreign) + "\n")
    with pytest.raises(RecordError, match="not a journal entry"):
        journal.entries()


def test_a_torn_last_line_is_dropped_aloud_and_cut_before_the_next(journal, make_record):
    journal.append(make_record(), node="whole")
    with journal.path.open("ab") as file:
        file.write(b'{"node":"torn","record":{"schema_v')
    with pytest.warns(TornLineWarning, match="cut off"):
        assert [entry.node for entry in journal.entries()] == ["whole"]
    with pytest.warns(TornLineWarning):
        journal.append(make_record(), node="next")
    assert [entry.node for entry in journal.entries()] == ["whole", "next"]


def test_a_torn_line_longer_than_one_look_back_is_cut_whole(journal, make_record):
    journal.append(make_record(), node="whole")
    with journal.path.open("ab") as file:
        file.write(b"x" * 200_000)
    with pytest.warns(TornLineWarning):
        journal.append(make_record(), node="next")
    assert [entry.node for entry in journal.entries()] == ["whole", "next"]


def test_a_journal_that_is_one_torn_line_starts_again(journal, make_record):
    journal.path.parent.mkdir()
    journal.path.write_bytes(b'{"node"')
    with pytest.warns(TornLineWarning):
        journal.append(make_record(), node="first")
    assert [entry.node for entry in journal.entries()] == ["first"]


@pytest.mark.parametrize(
    "damage",
    [
        b"not json\n",
        b"[]\n",
        b'{"node":"x"}\n',
        b'{"node":1,"record":{}}\n',
        b'{"mark":{"stage":"lunch"}}\n',
        b'{"mark":{"stage":"build","case":"a"}}\n',
        b'{"mark":{"stage":"build"},"node":"x"}\n',
        b'{"start":{"schema_version":1}}\n',
        b'{"start":[]}\n',
        b'{"node":"x","record":{"schema_version":1}}\n',
        b"\xff\xfe\n",
        b"\n",
        b"\0" * 40 + b"\n",
        b'{"node":"x","record":{"schema_version":NaN}}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_damage_before_the_end_names_the_line(journal, make_record, damage):
    journal.append(make_record(), node="one")
    with journal.path.open("ab") as file:
        file.write(damage)
    journal.append(make_record(), node="three")
    with pytest.raises(RecordError, match=r"line 2"):
        journal.records()


def test_a_line_of_a_newer_release_is_refused_with_its_version(journal, make_record):
    journal.path.parent.mkdir()
    line = {"node": "x", "record": make_record().to_json() | {"schema_version": 7}}
    journal.path.write_text(json.dumps(line) + "\n")
    with pytest.raises(RecordError, match=r"schema 7.*newer"):
        journal.records()


def test_a_run_of_a_newer_release_is_refused_with_its_version(journal):
    journal.path.parent.mkdir()
    journal.path.write_text('{"start":{"schema_version":7,"mood":"good"}}\n')
    with pytest.raises(RecordError, match=r"journal schema 7.*newer"):
        journal.lines()


def test_a_huge_journal_is_refused_before_it_is_parsed(tmp_path, make_record):
    journal = Journal(tmp_path / "journal.jsonl", max_bytes=1000)
    journal.append(make_record(samples=500))
    with pytest.raises(RecordError, match="max_file_bytes"):
        journal.records()


def test_setting_aside_keeps_the_old_lines(journal, make_record):
    journal.append(make_record(), node="old")
    aside = journal.set_aside()
    assert aside is not None
    assert journal.records() == []
    journal.append(make_record(), node="new")
    assert [entry.node for entry in Journal(aside).entries()] == ["old"]
    assert [entry.node for entry in journal.entries()] == ["new"]


def test_the_newest_journals_that_were_set_aside_stay_and_older_ones_make_room(tmp_path, make_record):
    journals = [Journal(tmp_path / name) for name in ("stack.jsonl", "stack.2.jsonl")]
    asides = []
    for number in range(4):
        for journal in journals:
            journal.append(make_record(), node=str(number))
            asides.append(journal.set_aside(kept=2))
    (tmp_path / "stack.note.jsonl").touch()  # somebody's own
    journals[0].append(make_record(), node="in progress")
    assert journals[0].set_aside(kept=2) is not None
    left = sorted(tmp_path.glob("*.jsonl"))
    assert asides[6] in left
    assert set(asides[:5]).isdisjoint(left)  # of each run's own journals
    assert {asides[5], asides[7], tmp_path / "stack.note.jsonl"} < set(left)
    assert len(left) == 5


def test_what_set_aside_keeps_by_default_is_the_policys(tmp_path, make_record):
    journal = Journal(tmp_path / "stack.jsonl")
    for _ in range(StoreSettings().kept_journals + 2):
        journal.append(make_record())
        journal.set_aside()
    assert len(list(tmp_path.glob("*.jsonl"))) == StoreSettings().kept_journals


def test_a_full_disk_is_a_clear_message(make_record):
    with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
        Journal(Path("/dev/full")).append(make_record())


def test_a_disk_that_fills_up_mid_line_takes_nothing_away(tmp_path, make_record):
    """A file-size limit makes the kernel take half a line, as a full disk does."""
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(make_record(), node="kept")
    size = journal.path.stat().st_size
    script = textwrap.dedent(
        """
        import json, resource, signal, sys
        from pathlib import Path
        from trtgate.errors import StorageError
        from trtgate.record import Record
        from trtgate.store.journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        try:
            Journal(Path(sys.argv[1])).append(Record.from_json(json.loads(sys.stdin.read()), "stdin"), node="lost")
        except StorageError as error:
            print(error)
        """
    )
    text = json.dumps(make_record().to_json())
    done = subprocess.run(
        [sys.executable, "-c", script, str(journal.path), str(size + 100)],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in done.stdout
    assert journal.path.stat().st_size == size
    assert [entry.node for entry in journal.entries()] == ["kept"]


def test_a_file_where_a_folder_should_be_is_a_clear_message(tmp_path, make_record):
    (tmp_path / "results").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        Journal(tmp_path / "results" / "journal.jsonl").append(make_record())


def test_a_folder_where_the_file_should_be_is_a_clear_message(tmp_path, make_record):
    with pytest.raises(StorageError, match="Name a file, not a folder"):
        Journal(tmp_path).append(make_record())
    with pytest.raises(StorageError):
        Journal(tmp_path).records()


def _append_many(path: str, name: str, count: int, text: str) -> None:
    from trtgate.record import Record

    record = Record.from_json(json.loads(text), "test")
    journal = Journal(Path(path))
    for number in range(count):
        journal.append(record, node=f"{name}-{number}")


def test_concurrent_writers_never_interleave(tmp_path, make_record):
    path = tmp_path / "journal.jsonl"
    # Far above the size at which a pipe or a page would split a write.
    text = json.dumps(make_record(samples=3000).to_json())
    start = multiprocessing.get_context("spawn")
    writers = [start.Process(target=_append_many, args=(str(path), name, 25, text)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    nodes = [entry.node for entry in Journal(path).entries()]
    assert sorted(nodes) == sorted(f"{name}-{number}" for name in "ab" for number in range(25))
    for name in "ab":
        assert [node for node in nodes if node[0] == name] == [f"{name}-{number}" for number in range(25)]


@pytest.mark.filterwarnings("ignore::trtgate.store.journal.TornLineWarning")
def test_sigkill_loses_at_most_the_line_in_progress(tmp_path, make_record):
    """Writers are killed at random moments, one after the other, on one journal."""
    path = tmp_path / "journal.jsonl"
    text = json.dumps(make_record(samples=2000).to_json())
    acknowledged: set[str] = set()
    for life in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), f"life{life}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdin
            assert writer.stdout
            writer.stdin.write(text)
            writer.stdin.close()
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.02 + 0.013 * life)
            os.kill(writer.pid, signal.SIGKILL)
            counted = [int(line) for line in writer.stdout.read().split()]
        done = max(counted, default=0)
        acknowledged |= {f"life{life}-{number}" for number in range(done)}
        nodes = [entry.node for entry in Journal(path).entries()]
        assert acknowledged <= set(nodes)
        assert len([node for node in nodes if node.startswith(f"life{life}-")]) <= done + 1
    assert len(acknowledged) > 6, "the writers were killed before they wrote anything"
