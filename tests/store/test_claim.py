"""A journal belongs to one live run at a time, and to nobody once that run has ended, however it ended."""

import os
import signal
import subprocess
import sys

import pytest

from trtgate.errors import StorageError
from trtgate.store import claim as claims
from trtgate.store.claim import claim

HOLD = """
import sys, time
from pathlib import Path
from trtgate.store.claim import claim
held = claim(Path(sys.argv[1]), "stack", max_bytes=1000, resume=False)
print(held.journal.path.name, flush=True)
time.sleep(60)
"""


@pytest.fixture
def held_elsewhere(tmp_path):
    """A live process that holds the first journal."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "stack.jsonl"
        yield process
        process.kill()


def name(claimed):
    return claimed.journal.path.name


def test_two_live_runs_write_two_journals(tmp_path, held_elsewhere):
    assert name(claim(tmp_path, "stack", max_bytes=1000, resume=False)) == "stack.2.jsonl"
    assert name(claim(tmp_path, "other", max_bytes=1000, resume=False)) == "other.jsonl"


def test_a_killed_run_leaves_its_journal_to_be_resumed(tmp_path, held_elsewhere, make_record):
    claims.Journal(tmp_path / "stack.jsonl").append(make_record())
    assert name(claim(tmp_path, "stack", max_bytes=100_000, resume=True)) == "stack.2.jsonl"  # nobody takes a live one
    os.kill(held_elsewhere.pid, signal.SIGKILL)
    held_elsewhere.wait()
    resumed = claim(tmp_path, "stack", max_bytes=100_000, resume=True)
    assert name(resumed) == "stack.jsonl"
    assert resumed.journal.records() == [make_record()]


def test_resuming_prefers_what_a_broken_run_left(tmp_path, make_record):
    claims.Journal(tmp_path / "stack.3.jsonl").append(make_record())
    claimed = claim(tmp_path, "stack", max_bytes=100_000, resume=True)
    assert name(claimed) == "stack.3.jsonl"
    claimed.release()
    assert name(claim(tmp_path, "stack", max_bytes=100_000, resume=False)) == "stack.jsonl"


def test_a_released_journal_is_free(tmp_path):
    for _ in range(2):
        claimed = claim(tmp_path, "stack", max_bytes=1000, resume=False)
        assert name(claimed) == "stack.jsonl"
        claimed.release()


def test_more_runs_than_there_are_journals_are_refused(tmp_path, monkeypatch, held_elsewhere):
    monkeypatch.setattr(claims, "_MOST_RUNS", 1)
    with pytest.raises(StorageError, match="1 runs of this machine and stack are going on"):
        claim(tmp_path, "stack", max_bytes=1000, resume=False)


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot create the folder"):
        claim(tmp_path / "file" / "journals", "stack", max_bytes=1000, resume=False)
