import subprocess
import sys
from pathlib import Path

import pytest

from trtgate.case import Quantity
from trtgate.errors import RecordError, StorageError
from trtgate.gate.crew import Taken
from trtgate.gate.plan import BASE, HEAD, TWIN, contests_of
from trtgate.gate.samples import SampleFile, mend
from trtgate.gate.sides import own_root
from trtgate.judge.pairs import read_pairs


def _taken(pair):
    (contest,) = contests_of(["resnet18-eager-fp16-b8-graph"], [Quantity.DEVICE])
    taken = Taken(contest, pair)
    taken.blocks = {role: [[1e-3 + pair * 1e-4, 1.23456789e-3]] * 2 for role in (BASE, HEAD, TWIN)}
    taken.turns = {role: [0, 5] for role in (BASE, HEAD, TWIN)}
    return taken


@pytest.fixture
def recorded(tmp_path):
    file = SampleFile(tmp_path / "deep/samples.jsonl")
    for pair in range(2):
        file.append(_taken(pair))
    return tmp_path / "deep/samples.jsonl"


def test_what_is_written_reads_back_as_pairs(recorded):
    pairs = read_pairs(recorded)
    assert {(pair.pair, pair.arm) for pair in pairs} == {(0, "head"), (0, "aa"), (1, "head"), (1, "aa")}
    assert pairs[0].base[0][1] == pytest.approx(1.23456789e-3, rel=1e-6)


def test_a_whole_recording_is_left_alone(recorded):
    before = recorded.read_bytes()
    assert mend(recorded) == 0
    assert recorded.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 40, 200, 400, 600])
def test_a_recording_that_was_cut_anywhere_keeps_every_whole_pair(recorded, cut):
    recorded.write_bytes(recorded.read_bytes()[:-cut])
    assert mend(recorded) > 0
    pairs = read_pairs(recorded)
    assert {pair.pair for pair in pairs} >= {0}
    assert all(len(pair.base) == len(pair.head) for pair in pairs)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello\nworld\n")
    with pytest.raises(RecordError, match=r"notes\.txt"):
        mend(tmp_path / "notes.txt")


def test_a_failed_contest_leaves_no_samples(recorded):
    before = recorded.read_bytes()
    taken = _taken(2)
    taken.failures[HEAD] = StorageError("What.", "Do.")
    SampleFile(recorded).append(taken)
    assert recorded.read_bytes() == before


def test_a_full_disk_is_a_message(tmp_path):
    (tmp_path / "samples.jsonl").symlink_to("/dev/full")  # the kernel's own disk that is always full
    file = SampleFile(tmp_path / "samples.jsonl")
    with pytest.raises(StorageError, match="No space left"):
        file.append(_taken(0))


def test_a_disk_that_fills_up_leaves_only_whole_pairs(recorded):
    before = recorded.read_bytes()
    script = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_samples import SampleFile, StorageError, _taken
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100}, resource.RLIM_INFINITY))
try:
    SampleFile(Path({str(recorded)!r})).append(_taken(2))
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=own_root())
    assert "cannot be written" in done.stdout
    assert recorded.read_bytes() == before


def test_a_second_gate_numbers_its_pairs_on(recorded):
    with recorded.open("a") as file:
        file.write('{"pair": 2, "case": "resn')  # a gate that was killed
    again = SampleFile.added_to(recorded)
    for pair in range(2):
        again.append(_taken(pair))
    assert sorted({pair.pair for pair in read_pairs(recorded)}) == [0, 1, 2, 3]


def test_a_new_file_starts_at_pair_0_and_a_foreign_one_is_refused_before_the_gate_starts(tmp_path):
    SampleFile.added_to(tmp_path / "new.jsonl").append(_taken(0))
    assert {pair.pair for pair in read_pairs(tmp_path / "new.jsonl")} == {0}
    (tmp_path / "notes.txt").write_text("hello\nworld\n")
    with pytest.raises(RecordError, match=r"notes\.txt"):
        SampleFile.added_to(tmp_path / "notes.txt")
