"""A run is read strictly: damaged, foreign, future and huge files are refused, each with its own message."""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.stats import Stats

from trtgate.errors import RecordError, StorageError
from trtgate.record import Outcome, Parity
from trtgate.store import history, host_format
from trtgate.store.history import RunStatus, load_run, save_run


@pytest.fixture
def folder(tmp_path, h100):
    return tmp_path / "results" / h100.folder


@pytest.fixture
def mixed(make_record):
    """A time, a size, a parity row, a failure and a skip."""
    return [
        make_record(baselines={"eager": 0.84e-3, "inductor": 0.6e-3}),
        make_record(quantity="latency"),
        make_record(quantity="plan", median_s=24e6, samples=1),
        make_record(
            quantity="parity", parity=Parity(passed=True, reference="float64", batches=4, outputs=()), samples=1
        ),
        make_record("vit_b_16-tensorrt_engine-fp8-b1-graph", outcome=Outcome.FAILED, reason="Parity failed."),
        make_record("vit_b_16-torch_tensorrt-fp16-b1-stream", outcome=Outcome.SKIPPED, reason="Needs a GPU."),
    ]


def _damaged(path: Path, change) -> Path:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_a_run_comes_back_as_it_was(folder, mixed):
    path = save_run(folder, mixed, status=RunStatus.PASSED)
    assert path.parent == folder
    assert path.name.startswith("0001_0123456789abcdef0123456789abcdef01234567_")
    run = load_run(path)
    assert sorted(run.records, key=lambda record: record.key) == sorted(mixed, key=lambda record: record.key)
    assert (run.status, run.reason, run.commit) == ("passed", "", mixed[0].commit)
    assert run.identity == mixed[0].identity


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5, 6, 7, 8, 101])
def test_our_statistics_are_the_hosts(rounds):
    samples = np.random.default_rng(rounds).lognormal(size=rounds)
    host = Stats()
    for sample in samples:
        host.update(float(sample))
    theirs = host.as_dict()
    ours = host_format.host_statistics(samples)
    assert ours.pop("iterations") == 1
    assert ours.pop("outliers") == theirs.pop("outliers")
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("trtgate"), "written by pytest-benchmark without trtgate"),
        (lambda data: data.pop("benchmarks"), "not a pytest-benchmark file"),
        (lambda data: data["trtgate"].update(schema_version=2), "history schema 2.*newer"),
        (lambda data: data["trtgate"].update(schema_version="x"), "history schema x"),
        (lambda data: data["trtgate"].update(status="green"), "status 'green'"),
        (lambda data: data["trtgate"].update(status=[]), r"status \[\]"),
        (lambda data: data["trtgate"].update(records={}), "without trtgate"),
        (lambda data: data["benchmarks"].append(7), "row 2, is not a benchmark"),
        (lambda data: data["benchmarks"].append(data["benchmarks"][0]), "Two records.*re-run plugins"),
        (lambda data: data["benchmarks"].clear(), "holds no record"),
        (lambda data: _row(data).update(schema_version=2), "row 1, has record schema 2.*newer"),
        (lambda data: _row(data).update(surprise=1), "surprise"),
        (lambda data: _row(data).pop("case"), "case"),
        (lambda data: _row(data).update(commit="\ud800"), "half of a character"),
        (
            lambda data: _row(data)["series"].update(packed="AAAA"),
            r"row 1, 'resnet18.*', device: A packed series is dam",
        ),
        (lambda data: _row(data).update(recorded_at="yesterday"), "'yesterday' is no ISO 8601 time"),
        (lambda data: _row(data).update(recorded_at="0001-01-01T00:00:00+23:00"), "no ISO 8601 time that has a UTC"),
        (lambda data: _row(data)["series"].update(count=0, packed=_packed([])), "measured time has no sample"),
        (lambda data: _row(data)["series"].update(count=1, packed=_packed([-1.0])), "sample is negative"),
        (lambda data: _row(data)["series"].update(packed=_bomb()), "holds more than its 50 samples"),
        (lambda data: _row(data)["series"].update(count=51), "says 51 samples and holds 50"),
        (lambda data: _row(data)["series"].update(count=3), "holds more than its 3 samples"),
    ],
)
def test_a_damaged_or_foreign_file_says_what_is_wrong(folder, make_record, change, message):
    path = _damaged(save_run(folder, [make_record()], status=RunStatus.PASSED), change)
    with pytest.raises(RecordError, match=message):
        load_run(path)


def _packed(samples) -> str:
    return base64.b64encode(zlib.compress(np.asarray(samples, "<f4").tobytes())).decode()


def _bomb() -> str:
    """200 MB in 260 kB."""
    return base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()


def _row(data):
    return data["benchmarks"][0]["extra_info"]["trtgate"]


@pytest.mark.parametrize("kept", [0, 1, 100, 900])
def test_a_truncated_file_is_refused(folder, make_record, kept):
    path = save_run(folder, [make_record()], status=RunStatus.PASSED)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RecordError, match="damaged or cut off"):
        load_run(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\x80\x81", "byte 0 is not UTF-8"),
        (b'{"benchmarks": [NaN], "trtgate": {}}', "holds NaN"),
        (b'{"benchmarks": [1e999], "trtgate": {}}', "holds 1e999"),
        (b'{"benchmarks": [' + b"9" * 5000 + b'], "trtgate": {}}', "a number that cannot be read"),
        (b"[" * 200_000, "nested too deeply"),
        (b"7", "not a pytest-benchmark file"),
        (b"\0" * 100, "damaged"),
    ],
)
def test_what_is_not_a_run_is_refused(tmp_path, text, message):
    path = tmp_path / "0001_x.json"
    path.write_bytes(text)
    with pytest.raises(RecordError, match=message):
        load_run(path)


def test_a_huge_file_is_refused_unread_and_the_limit_can_be_raised(folder, make_record):
    path = save_run(folder, [make_record()], status=RunStatus.PASSED)
    with pytest.raises(RecordError, match=r"larger than 1,000 bytes.*max_file_bytes"):
        load_run(path, max_bytes=1000)
    assert load_run(path, max_bytes=path.stat().st_size).records


def test_missing_files_and_folders_are_clear_messages(tmp_path):
    with pytest.raises(StorageError, match=r"No such file or directory\. Check the path"):
        load_run(tmp_path / "0001_x.json")
    with pytest.raises(StorageError, match="Name a file, not a folder"):
        load_run(tmp_path)
    with pytest.raises(StorageError, match="no history folder"):
        history.run_paths(tmp_path / "nowhere")
