"""The commands on stored runs (accept, trend, report) and trtgate doctor."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from trtgate.cli import ExitCode, main
from trtgate.record import Outcome
from trtgate.store.history import RunStatus, load_run, save_run

_CASES = ("resnet18-tensorrt_engine-fp16-b8-graph", "resnet50-tensorrt_engine-fp16-b8-graph")


def _run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_accept_brings_a_rejected_run_back(runs, capsys):
    rejected = runs(2.0, 2.0, status=RunStatus.FAILED)
    assert _run("accept", rejected, "--reason", "New driver.") == 0
    shown = capsys.readouterr().out
    accepted = Path(re.search(r"Accepted: (\S+)", shown).group(1))
    assert load_run(accepted).status == "accepted"
    assert not rejected.exists()


def test_accept_refuses_an_empty_reason_and_a_missing_run(runs, capsys):
    assert _run("accept", runs(1.0, 1.0), "--reason", " ") == ExitCode.USAGE
    assert _run("accept", "nowhere.json", "--reason", "x") == ExitCode.USAGE
    assert "Cannot read nowhere.json" in capsys.readouterr().err


@pytest.fixture
def stepped(runs):
    """Twelve runs, the first case 20% slower from the seventh on, with a spike at the third."""
    random = np.random.default_rng(4)
    for number in range(12):
        factor = (1.2 if number >= 6 else 1.0) * (1.5 if number == 2 else 1.0)
        runs(factor * float(np.exp(random.normal(0, 0.002))), 1.0, commit=f"{number:040d}")


def test_trend_names_the_commits_of_a_step(stepped, capsys, here):
    assert _run("trend", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    (step,) = found["change_points"]
    assert (step["case"], step["quantity"]) == (_CASES[0], "device")
    assert (step["before"], step["after"]) == (f"{5:040d}", f"{6:040d}")
    assert step["low"] < 1.2 < step["high"]
    assert found["histories"] == 2
    assert _run("trend", _CASES[1], "--quantity", "device") == 0
    assert "No change point" in capsys.readouterr().out
    assert _run("trend", "--markdown", "t.md") == 0
    assert f"`{'0' * 12}..{'0' * 12}`" in (here / "t.md").read_text()


def test_trend_reads_the_same_from_parquet(stepped, capsys):
    assert _run("trend", "--json", "-") == 0
    direct = json.loads(capsys.readouterr().out)
    assert _run("trend", "--store", "store", "--ingest", "results", "--json", "-") == 0
    shown = capsys.readouterr()
    assert "Added 24 records" in shown.err
    assert json.loads(shown.out) == direct
    assert _run("trend", "--store", "store", "--ingest", "results", "--summary") == 0
    shown = capsys.readouterr()
    assert "Added 0 records" in shown.err
    assert "24" in shown.out


def test_a_summary_has_every_form_that_is_asked_for(stepped, here, capsys):
    assert _run("trend", "--summary", "--json", "-", "--markdown", "s.md") == 0
    (stack,) = json.loads(capsys.readouterr().out)["stacks"]
    assert (stack["records"], stack["cases"], stack["commits"]) == (24, 2, 12)
    assert f"| `{stack['stack']}` | 24 | 24 | 2 | 12 | {stack['first']} |" in (here / "s.md").read_text()


def test_a_history_is_not_buried_under_a_parquet_store(stepped, here, capsys):
    assert _run("trend", "--ingest", "results") == ExitCode.USAGE
    assert "trend --store OTHER --ingest results" in capsys.readouterr().err
    assert not list(here.rglob("*.parquet"))
    assert _run("trend", "--store", "store", "--ingest", "results", "--summary") == 0
    next(here.glob("results/0001_*")).rename(here / "store" / "0001_stray.json")
    assert _run("trend", "--store", "store") == ExitCode.USAGE  # which of the two is meant?
    assert "0001_stray.json" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["duckdb", "pyarrow", "ruptures"])
@pytest.mark.parametrize("arguments", [["trend"], ["trend", "--store", "store", "--ingest", "results"]])
def test_a_missing_package_of_the_extra_is_named(stepped, monkeypatch, capsys, package, arguments):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(arguments) == ExitCode.INVALID
    shown = capsys.readouterr().err
    assert package in shown
    assert "pip install 'trtgate[history]'" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("field", [{"commit": "\ud800"}, {"recorded_at": "0001-01-01T00:00:00+23:00"}])
def test_trend_refuses_values_that_no_store_can_hold(runs, capsys, field):
    path = runs(1.0, 1.0)
    stored = json.loads(path.read_text())
    for row in stored["benchmarks"]:
        row["extra_info"]["trtgate"].update(field)
    path.write_text(json.dumps(stored))
    assert _run("trend") == ExitCode.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_accept_refuses_what_it_could_not_write_again(runs, capsys):
    path = runs(1.0, 1.0)
    path.write_text(path.read_text().replace('"iterations":1', '"iterations":1e999'))
    assert _run("accept", path, "--reason", "x") == ExitCode.USAGE
    assert "1e999" in capsys.readouterr().err


def test_compare_with_a_folder_is_with_its_baseline(runs, capsys, here):
    first, slower = runs(1.0, 1.0), runs(3.0, 3.0)
    assert _run("compare", "results", slower) == ExitCode.REGRESSION
    assert first.name in capsys.readouterr().out
    assert _run("accept", slower, "--reason", "Larger model.") == 0
    (here / "trtgate.toml").write_text("[judge.margin]\ndevice = 0.5\n")
    assert _run("compare", "results", slower) == ExitCode.PASS


def test_report_holds_the_history_to_the_limit_of_the_policy(runs, here, capsys):
    path = runs(1.0, 1.0)
    (here / "small").mkdir()
    small = here / "small" / path.name
    small.write_bytes(path.read_bytes())
    path.write_text(path.read_text() + " " * 200_000)
    (here / "trtgate.toml").write_text(f"[store]\nmax_file_bytes = {small.stat().st_size + 1000}\n")
    assert _run("report", small, "--html", "r.html") == 0
    assert _run("report", small, "--html", "r.html", "--history", "results") == ExitCode.USAGE
    assert "max_file_bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trend", "--store", "nowhere"], "no history folder"),
        (["trend", "not-a-case"], "not a case id"),
        (["trend", "resnet18-eager-fp16-b1-stream"], "no history of"),
        (["trend", "--quantity", "devise"], "Did you mean 'device'"),
        (["trend", "--store", "postgresql://nobody@127.0.0.1:1/none"], "The database 127.0.0.1/none refused"),
    ],
)
def test_trend_refuses_what_it_cannot_find(runs, capsys, arguments, message):
    runs(1.0, 1.0)
    assert main(arguments) == ExitCode.USAGE
    assert message in capsys.readouterr().err


def test_report_prints_a_run_in_every_form(stepped, here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    arguments = ["--markdown", "r.md", "--html", "r.html", "--json", "r.json", "--history", "results"]
    assert _run("report", "results", *arguments) == 0
    shown = capsys.readouterr().out
    assert "NVIDIA H100 80GB HBM3" in shown
    assert re.search(r"tensorrt_engine graph +device +1\.20 +2\.[45]\d \[2\.\d+ 2\.\d+\]", shown), shown
    assert f"| `{_CASES[0]}` | 1.20 |" in (here / "r.md").read_text()
    assert "<polyline" in (here / "r.html").read_text()
    assert [record["case"] for record in json.loads((here / "r.json").read_text())] == list(_CASES)


def test_report_merges_goes_of_one_commit(here, make_record, capsys):
    paths = [save_run(here / "results", [make_record(case)], status=RunStatus.PASSED) for case in _CASES]
    assert _run("report", *paths, "--json", "-") == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    other = save_run(here / "results", [make_record(commit="fedcba")], status=RunStatus.PASSED)
    assert _run("report", paths[0], other) == ExitCode.USAGE
    assert "different commits" in capsys.readouterr().err


def test_report_of_failures_shows_why(here, make_record, capsys):
    failed = make_record(outcome=Outcome.FAILED, reason="Parity failed on output [logits].")
    save_run(here / "results", [failed, make_record(_CASES[1])], status=RunStatus.PASSED)
    assert _run("report", "results") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Parity failed on output [logits]." in shown


def test_report_says_in_every_form_that_a_run_did_not_pass(here, make_record, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # however long the path of the run is
    reason = "Latency is slower x17 [<b>]."
    rejected = save_run(here / "results", [make_record()], status=RunStatus.FAILED, reason=reason)
    passed = save_run(here / "results", [make_record(_CASES[1])], status=RunStatus.PASSED)
    assert _run("report", rejected, "--markdown", "r.md", "--html", "r.html") == 0
    said = "This run did not pass when it was recorded: "
    assert f"{said}{reason}" in " ".join(capsys.readouterr().out.split())
    assert f"**{said}Latency is slower x17 \\[&lt;b&gt;\\].**" in (here / "r.md").read_text()
    assert f"{said}Latency is slower x17 [&lt;b&gt;]." in (here / "r.html").read_text()
    assert _run("report", passed) == 0
    assert "did not pass" not in capsys.readouterr().out
    assert _run("report", passed, rejected) == 0
    assert f"{rejected} did not pass when it was recorded: {reason}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("failed", ["base", "head"])
def test_compare_says_of_either_side_that_it_did_not_pass(here, make_record, capsys, failed):
    status = {"base": RunStatus.PASSED, "head": RunStatus.PASSED, failed: RunStatus.FAILED}
    sides = [save_run(here / "results", [make_record()], status=status[side]) for side in ("base", "head")]
    _run("compare", *sides)
    (said,) = re.findall("The (base|head) did not pass when it was recorded: no reason", capsys.readouterr().out)
    assert said == failed


def test_doctor_tells_what_is_here_and_insists_only_when_asked(here, capsys):
    assert _run("doctor", "--json") == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["torch"]["here"]
    assert found["backend eager"]["here"]
    assert "fp32" in found["backend eager"]["detail"]
    assert found["results"]["detail"] == "results (will be created)"
    assert not (here / "results").exists()
    assert _run("doctor", "--require", "eager") == 0
    absent = [name for name, finding in found.items() if name.startswith("backend ") and not finding["here"]]
    for name in absent:
        assert _run("doctor", "--require", name.removeprefix("backend ")) == ExitCode.INVALID
    assert _run("doctor", "--require", "egar") == ExitCode.USAGE
    assert "Did you mean 'eager'" in capsys.readouterr().err


def test_doctor_sees_a_results_path_that_is_a_file(here, capsys):
    (here / "results").write_text("")
    assert _run("doctor", "--json") == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert not found["results"]["here"]
    assert found["results"]["fix"]
