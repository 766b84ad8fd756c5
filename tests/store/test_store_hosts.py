"""A history is of one host where the host matters, in every store."""

import json
import re

import numpy as np
import pytest

from trtgate.cli import main
from trtgate.policy.judge import TrendSettings
from trtgate.report import trends
from trtgate.store.history import RunStatus, load_run, run_paths, save_run

_CASE = "resnet18-tensorrt_engine-fp16-b8-graph"


@pytest.fixture
def moved(here, make_record, h100):
    """24 nights. After the 12th the job moves to a host with other threads, where a call waits for 20% longer.

    Device time knows nothing of that; a commit makes it 10% longer from the 8th night on.
    """
    random = np.random.default_rng(7)
    for night in range(24):
        host = h100.model_copy(update={"threads": 16 if night < 12 else 18})
        shared = {"identity": host, "commit": f"{night:040d}", "recorded_at": f"2026-11-{night + 1:02d}T02:00:00+00:00"}
        noise = np.exp(random.normal(0, 0.002, 3))
        records = [
            make_record(_CASE, "latency", median_s=1e-3 * noise[0] * (1.2 if night >= 12 else 1.0), **shared),
            make_record(_CASE, "device", median_s=5e-4 * noise[1] * (1.1 if night >= 7 else 1.0), **shared),
            make_record(_CASE, "plan", median_s=1e6 * noise[2], **shared),
        ]
        save_run(here / "results", records, status=RunStatus.PASSED)
    return [load_run(path) for path in run_paths(here / "results")]


def _counts(store):
    return [(one.quantity, one.host, len(one.medians)) for one in store.series()]


def test_another_host_is_no_step_of_a_commit(moved, filled):
    store = filled(moved)
    found = trends.search(store.series(quantity="latency"), TrendSettings())
    assert found.findings == ()
    assert (found.histories, found.runs) == (2, 24)
    old, new = store.series(quantity="latency")
    assert [one.host for one in (old, new)] == [
        f"CPU AMD EPYC 9554, threads {threads}, ONNX Runtime 1.32.0" for threads in (16, 18)
    ]
    assert old.commits == tuple(f"{night:040d}" for night in range(12))
    assert np.median(new.medians) / np.median(old.medians) == pytest.approx(1.2, rel=0.01)


def test_what_no_host_takes_part_in_stays_one_history(moved, filled):
    store = filled(moved)
    assert [entry for entry in _counts(store) if entry[0] != "latency"] == [("device", "", 24), ("plan", "", 24)]
    (step,) = trends.search(store.series(quantity="device"), TrendSettings()).findings
    assert (step.change.before, step.change.after) == (f"{6:040d}", f"{7:040d}")
    assert step.host == ""


def test_hosts_that_take_turns_keep_a_history_each(filled, here, make_record, h100):
    for night in range(6):
        host = h100.model_copy(update={"cpu": "another"} if night % 2 else {})
        time = f"2026-11-{night + 1:02d}T02:00:00+00:00"
        record = make_record(_CASE, "throughput", identity=host, recorded_at=time, commit=str(night))
        save_run(here / "results", [record], status=RunStatus.PASSED)
    even, odd = filled([load_run(path) for path in run_paths(here / "results")]).series()
    assert (even.commits, odd.commits) == (("0", "2", "4"), ("1", "3", "5"))


def test_another_torch_tensorrt_is_another_history_of_its_own_backend_alone(filled, tmp_path, make_record, h100):
    wrapper = "resnet18-torch_tensorrt-fp16-b8-graph"
    for number, version in enumerate(["2.11.0", "2.12.0"]):
        stack = h100.model_copy(update={"torch_tensorrt": version})
        records = [make_record(case, identity=stack, commit=str(number)) for case in (_CASE, wrapper)]
        save_run(tmp_path / "results", records, status=RunStatus.PASSED)
    store = filled([load_run(path) for path in run_paths(tmp_path / "results")])
    assert [(one.case, one.host, one.commits) for one in store.series()] == [
        (_CASE, "", ("0", "1")),
        (wrapper, "Torch-TensorRT 2.11.0", ("0",)),
        (wrapper, "Torch-TensorRT 2.12.0", ("1",)),
    ]


@pytest.mark.parametrize("arguments", [[], ["--store", "store", "--ingest", "results"]])
def test_trend_blames_no_commit_for_a_host(moved, capsys, arguments):
    assert main(["trend", "--json", "-", *arguments]) == 0
    (step,) = json.loads(capsys.readouterr().out)["change_points"]
    assert (step["quantity"], step["host"], step["after"]) == ("device", "", f"{7:040d}")


def test_a_page_draws_the_history_of_the_runs_own_host(here, make_record, h100):
    for threads in (16, 16, 18, 18, 18):
        record = make_record(_CASE, "latency", identity=h100.model_copy(update={"threads": threads}))
        save_run(here / "results", [record], status=RunStatus.PASSED)
    oldest = run_paths(here / "results")[0]
    assert main(["report", str(oldest), "--html", "r.html", "--history", "results"]) == 0
    (line,) = re.findall('<polyline points="([^"]*)"', (here / "r.html").read_text())
    assert len(line.split()) == 2
