"""Histories are pytest-benchmark's own files, entered and moved only by rule."""

import json
import multiprocessing
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from trtgate.case import Case
from trtgate.errors import RecordError, StorageError, UsageError
from trtgate.record import Record
from trtgate.store import history
from trtgate.store.files import write_atomic
from trtgate.store.history import RunStatus, accept, find_baseline, load_run, merge, quarantine, save_run

pytest_plugins = ["pytester"]


_SOURCE = Path(history.__file__).parents[2]


@pytest.fixture
def folder(tmp_path, h100):
    return tmp_path / "results" / h100.folder


def _damaged(path: Path, change) -> Path:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_pytest_benchmark_reads_and_compares_our_files(folder, make_record):
    node = "benchmarks/test_device_time.py::test_device_time[resnet18]"
    for median_s in (1e-3, 2e-3):
        record = make_record(median_s=median_s)
        save_run(folder, [record], status=RunStatus.PASSED, nodes={record.key: node})
    command = [sys.executable, "-m", "pytest_benchmark", f"--storage=file://{folder}", "compare", "--between=median"]
    done = subprocess.run([*command, "0001", "0002"], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "test_device_time[resnet18]" in done.stdout
    # The host prints the change between the two medians, which differ by a factor of 2.
    assert "+100" in done.stdout or "100.0%" in done.stdout, done.stdout


def test_a_file_saved_by_the_host_itself_is_read(pytester, monkeypatch, make_record):
    """A real pytest run with autosave, our hook, and a benchmark of the user's own beside ours."""
    monkeypatch.setenv("PYTHONPATH", str(_SOURCE))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # under xdist the host would switch itself off
    record = make_record()
    pytester.makeconftest(
        f"""
        from trtgate.record import Record
        from trtgate.store import host_format
        RECORD = {record.to_json()!r}
        def pytest_benchmark_update_json(config, benchmarks, output_json):
            output_json["trtgate"] = host_format.section("passed")
        """
    )
    pytester.makepyfile(
        """
        from conftest import RECORD
        def test_ours(benchmark):
            benchmark.extra_info["trtgate"] = RECORD
            benchmark.pedantic(lambda: None, rounds=3)
        def test_theirs(benchmark):
            benchmark.pedantic(lambda: None, rounds=3)
        """
    )
    done = pytester.runpytest_subprocess(
        "--benchmark-autosave", f"--benchmark-storage=file://{pytester.path}/h", "-p", "no:cacheprovider"
    )
    done.assert_outcomes(passed=2)
    (path,) = history.run_paths(pytester.path / "h")
    assert path.parent.parent == pytester.path / "h"
    assert load_run(path).records == (record,)
    assert find_baseline(pytester.path / "h", record.identity) == path
    moved = quarantine(path)
    assert load_run(moved).status == "failed"
    again = pytester.runpytest_subprocess(
        "--benchmark-compare", f"--benchmark-storage=file://{pytester.path}/h", "-p", "no:cacheprovider"
    )
    again.stderr.fnmatch_lines(["*Can't compare. No benchmark files*"])


def test_cpu_runs_compare_only_on_the_same_processor(cpu_only):
    assert history.same_stack(cpu_only, cpu_only.model_copy(update={"python": "3.11.9"}))
    for change in ({"threads": 8}, {"cpu": "other"}, {"onnxruntime": "1.33.0"}, {"torch": "2.14.1"}):
        assert not history.same_stack(cpu_only, cpu_only.model_copy(update=change))


def test_gpu_runs_do_not_ask_for_the_same_processor(h100):
    assert history.same_stack(h100, h100.model_copy(update={"threads": 8, "cpu": "other"}))
    for change in ({"driver": "1"}, {"tensorrt": "11.0"}, {"tensorrt_flavour": "tensorrt"}, {"gpu": "L4"}):
        assert not history.same_stack(h100, h100.model_copy(update=change))


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_accepting_needs_a_reason(folder, make_record, reason):
    path = save_run(folder, [make_record()], status=RunStatus.PASSED)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="reason"):
        accept(path, reason)
    assert path.read_bytes() == before


def test_quarantine_never_overwrites_an_earlier_reject(folder, make_record):
    first = save_run(folder, [make_record(seed=1)], status=RunStatus.PASSED)
    rejected = quarantine(first, "slower")
    shutil.copy(rejected, first)
    second = quarantine(first, "slower still")
    assert second != rejected
    assert {load_run(path).reason for path in history.run_paths(folder, rejected=True)} == {"slower", "slower still"}
    assert quarantine(second) == second
    assert history.run_paths(folder) == []


def test_records_of_two_machines_are_not_one_run(folder, make_record, cpu_only):
    records = [make_record(), make_record(quantity="latency", identity=cpu_only)]
    with pytest.raises(RecordError, match="more than one machine"):
        save_run(folder, records, status=RunStatus.PASSED)
    assert not folder.exists()


def test_an_empty_run_is_not_saved(folder):
    with pytest.raises(RecordError, match="no record to save"):
        save_run(folder, [], status=RunStatus.PASSED)


def test_a_file_in_the_place_of_the_folder_is_a_clear_message(tmp_path, make_record):
    (tmp_path / "results").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        save_run(tmp_path / "results" / "h100", [make_record()], status=RunStatus.PASSED)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The kernel refuses to grow the file, as a full disk would; the real call fails, not a stand-in."""
    path = tmp_path / "0001_x.json"
    path.write_text("old")
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from trtgate.errors import StorageError
        from trtgate.store.files import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            write_atomic(Path(sys.argv[1]), "new" * 1000)
        except StorageError as error:
            print(error)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "Cannot write" in done.stdout
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_readers_see_the_old_or_the_new_text_never_a_mixture(tmp_path):
    path = tmp_path / "file.json"
    texts = ["a" * 300_000, "b" * 300_000]
    write_atomic(path, texts[0])
    stop = threading.Event()
    seen = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        write_atomic(path, texts[turn % 2])
    stop.set()
    reader.join()
    assert seen <= set(texts)


def _save_many(folder: str, text: str, count: int) -> None:
    record = Record.from_json(json.loads(text), "test")
    for _ in range(count):
        save_run(Path(folder), [record], status=RunStatus.PASSED)


def test_concurrent_writers_never_share_a_number(folder, make_record):
    start = multiprocessing.get_context("spawn")
    text = json.dumps(make_record().to_json())
    writers = [start.Process(target=_save_many, args=(str(folder), text, 15)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    numbers = [path.name[:4] for path in history.run_paths(folder)]
    assert numbers == [f"{number:04d}" for number in range(1, 46)]
    assert all(load_run(path).records for path in history.run_paths(folder))


def test_the_last_four_digit_number_is_the_last(folder, make_record):
    folder.mkdir(parents=True)
    (folder / "9999_x.json").write_text("{}")
    with pytest.raises(StorageError, match="9999"):
        save_run(folder, [make_record()], status=RunStatus.PASSED)


def test_goes_merge_and_the_later_one_counts(make_record, cpu_only):
    early, late = make_record(seed=1), make_record(seed=2)
    latency = make_record(quantity="latency")
    assert merge([[early, latency], [late]]) == [late, latency]
    with pytest.raises(RecordError, match="different commits"):
        merge([[early], [make_record(quantity="latency", commit="fedcba")]])
    with pytest.raises(RecordError, match="more than one machine"):
        merge([[early], [make_record(quantity="latency", identity=cpu_only)]])
    with pytest.raises(RecordError, match="no record to merge"):
        merge([[], []])


def test_the_default_matrix_stays_under_five_megabytes(folder, make_record):
    """96 cases x 3 quantities, 200 samples of the candidate and of each of 3 baselines."""
    workloads = ["simple_cnn", "resnet18", "resnet50", "mobilenet_v3_small", "vit_b_16", "transformer"]
    backends = ["eager", "inductor", "torch_tensorrt", "tensorrt_engine"]
    baselines = {"eager": 0.84e-3, "eager_graph": 0.68e-3, "inductor": 0.5e-3}
    cases = [
        f"{workload}-{backend}-{precision}-b{batch}-graph"
        for workload in workloads
        for backend in backends
        for precision in ("fp32", "fp16")
        for batch in (1, 8)
    ]
    assert len(cases) == 96
    assert all(Case.parse(case).id == case for case in cases)
    records = [
        make_record(case, quantity, samples=200, baselines=baselines, seed=hash((case, quantity)) % 2**32)
        for case in cases
        for quantity in ("device", "latency", "throughput")
    ]
    path = save_run(folder, records, status=RunStatus.PASSED)
    assert path.stat().st_size < 5e6
    # What pytest-benchmark writes of the same rows is indented, which must not break the promise either.
    indented = json.dumps(json.loads(path.read_text()), indent=4)
    assert len(indented) < 5e6
