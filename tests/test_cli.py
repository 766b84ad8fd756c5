"""The command line: exit codes, messages, comparisons, and that nothing ends in a traceback."""

import json
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

import pytest

from trtgate import cli
from trtgate.cli import ExitCode, main
from trtgate.errors import (
    BackendAbsentError,
    EnvironmentInvalidError,
    NothingComparedError,
    PolicyError,
    RecordError,
    StorageError,
    TrtgateWarning,
    UnsupportedCaseError,
)
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings
from trtgate.store.history import RunStatus, save_run

_CASES = ("resnet18-tensorrt_engine-fp16-b8-graph", "resnet50-tensorrt_engine-fp16-b8-graph")


def _run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def _decisions(*words: str) -> list[Decision]:
    return [Decision(Verdict(word), "code", "Reason.") for word in words]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["same", "faster"], ExitCode.PASS),
        (["same", "slower"], ExitCode.REGRESSION),
        (["same", "missing"], ExitCode.REGRESSION),
        (["inconclusive", "slower"], ExitCode.REGRESSION),
        (["same", "inconclusive"], ExitCode.INCONCLUSIVE),
        (["same", "new"], ExitCode.INCONCLUSIVE),
        (["same", "incomparable"], ExitCode.INCONCLUSIVE),
        (["same", "invalid"], ExitCode.INVALID),
        (["slower", "invalid"], ExitCode.REGRESSION),
        (["incomparable", "incomparable"], ExitCode.NOTHING_COMPARED),
        (["new"], ExitCode.NOTHING_COMPARED),
        ([], ExitCode.NOTHING_COMPARED),
    ],
)
def test_the_worst_verdict_picks_the_exit_code(words, code):
    assert cli.verdict_code(_decisions(*words), JudgeSettings()) is code


def test_only_same_and_faster_pass_by_default():
    for verdict in Verdict:
        code = cli.verdict_code(_decisions("same", verdict), JudgeSettings())
        assert (code is ExitCode.PASS) == (verdict in (Verdict.SAME, Verdict.FASTER)), verdict


def test_a_policy_may_ask_for_an_explanation_of_wins():
    strict = JudgeSettings(passes=("same",))
    assert cli.verdict_code(_decisions("same", "faster"), strict) is ExitCode.REGRESSION


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError("a", "b"), ExitCode.USAGE),
        (RecordError("a", "b"), ExitCode.USAGE),
        (StorageError("a", "b"), ExitCode.USAGE),
        (UnsupportedCaseError("a", "b"), ExitCode.USAGE),
        (NothingComparedError("a", "b"), ExitCode.NOTHING_COMPARED),
        (EnvironmentInvalidError("a", "b"), ExitCode.INVALID),
        (BackendAbsentError("a", "b"), ExitCode.INVALID),
    ],
)
def test_errors_have_their_codes(error, code):
    assert cli.error_code(error) is code


def test_the_version_is_told(capsys, monkeypatch):
    monkeypatch.setattr(metadata, "version", {"trtgate": "1.2.3"}.__getitem__)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "trtgate 1.2.3\n"

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "a source tree that is not installed" in capsys.readouterr().out


def test_a_warning_is_a_sentence_and_one_of_another_package_stays_pythons(capsys, monkeypatch):
    def run(args):
        warnings.warn("A file is made again.", TrtgateWarning, stacklevel=1)
        warnings.warn("Not ours.", UserWarning, stacklevel=1)
        return ExitCode.PASS

    monkeypatch.setitem(cli._OWN, "accept", ("", lambda parser: None, run))
    with pytest.warns(UserWarning, match="Not ours") as kept:
        assert _run("accept") == ExitCode.PASS
    assert capsys.readouterr().err == "trtgate: A file is made again.\n"
    assert len(kept) == 1


def test_no_two_codes_are_the_same_and_help_names_them(capsys):
    assert len({code.value for code in ExitCode}) == len(ExitCode)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for code in ExitCode:
        assert f"{code.value} {code.name.lower().replace('_', ' ')}" in shown


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["compare", "one"], ["accept", "run"]])
def test_wrong_arguments_are_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == ExitCode.USAGE
    assert "usage:" in capsys.readouterr().err


_WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "pytest", "tensorrt", "onnx", "onnxruntime"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from trtgate.cli import main
base, head = sys.argv[1:]
print([main(["compare", base, head]), main(["report", base]), main(["trend"])])
"""


def test_stored_runs_are_compared_and_reported_without_torch(runs, here):
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, str(runs(1.0, 1.0)), str(runs(1.6, 1.0))],
        capture_output=True,
        text=True,
        cwd=here,
        env={"PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert done.stdout.endswith("[1, 0, 0]\n"), done.stderr


def test_compare_finds_a_large_regression(runs, capsys, here):
    base, head = runs(1.0, 1.0), runs(1.6, 1.0)
    assert _run("compare", base, head, "--junit", "j.xml", "--json", "c.json", "--markdown", "c.md") == 1
    shown = capsys.readouterr().out
    assert "slower" in shown
    assert "weaker evidence" in " ".join(shown.split())
    suite = ET.parse(here / "j.xml").getroot()[0]
    assert suite.get("failures") == "1"
    assert suite.find("testcase/failure/..").get("name") == _CASES[0]
    data = json.loads((here / "c.json").read_text())
    assert data["outcome"] == "regression"
    assert data["entries"][0]["case"] == _CASES[0]
    assert data["entries"][0]["ratio"] == pytest.approx(1.6, rel=0.02)
    assert "**slower**" in (here / "c.md").read_text()


def test_compare_of_one_run_with_itself_is_never_a_regression(runs, here):
    base = runs(1.0, 1.0)
    # One process a side cannot show equality within 1%: INCONCLUSIVE is the honest answer.
    assert _run("compare", base, base) == ExitCode.INCONCLUSIVE
    (here / "trtgate.toml").write_text("[judge.margin]\ndevice = 0.5\n")
    assert _run("compare", base, base) == ExitCode.PASS
    assert _run("compare", "results", "results") == ExitCode.PASS


def test_compare_sees_vanished_and_new_cases(runs, here, make_record, capsys):
    base = runs(1.0, 1.0)
    less = save_run(here / "results", [make_record(_CASES[0], median_s=1e-3)], status=RunStatus.PASSED)
    assert _run("compare", base, less) == ExitCode.REGRESSION
    assert "missing" in capsys.readouterr().out


def test_compare_of_different_cases_compares_nothing(here, make_record, capsys):
    one = save_run(here / "results", [make_record(_CASES[0])], status=RunStatus.PASSED)
    other = save_run(here / "results", [make_record(_CASES[1])], status=RunStatus.PASSED)
    assert _run("compare", one, other) == ExitCode.NOTHING_COMPARED
    assert "no measured case in common" in capsys.readouterr().err


def test_compare_across_machines_compares_nothing(here, make_record, h100):
    one = save_run(here / "a", [make_record()], status=RunStatus.PASSED)
    other = make_record(identity=h100.model_copy(update={"driver": "999"}))
    path = save_run(here / "b", [other], status=RunStatus.PASSED)
    assert _run("compare", one, path) == ExitCode.NOTHING_COMPARED


def test_json_to_standard_output_is_nothing_but_json(runs, capsys):
    base, head = runs(1.0, 1.0), runs(1.6, 1.0)
    assert _run("compare", base, head, "--json", "-") == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "regression"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"benchmarks": []}', "\x80", '{"benchmarks": [NaN]}'])
def test_bad_files_are_one_line_on_stderr(runs, here, capsys, text):
    (here / "bad.json").write_bytes(text.encode("latin-1"))
    assert _run("compare", runs(1.0, 1.0), "bad.json") == ExitCode.USAGE
    shown = capsys.readouterr()
    assert shown.err.startswith("trtgate: bad.json")
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err


def test_a_broken_policy_is_usage(runs, here, capsys):
    (here / "trtgate.toml").write_text("[judge]\nfirst_pear = 3\n")
    base = runs(1.0, 1.0)
    assert _run("compare", base, base) == ExitCode.USAGE
    assert "first_pairs" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "accept", "trend", "report"])
def test_a_rule_that_names_nothing_is_usage_in_every_command(command, runs, here, capsys):
    (here / "trtgate.toml").write_text(
        '[[judge.case_margin]]\ncase = "resnt18-*"\nquantity = "device"\nmargin = 0.1\nreason = "x"\n'
    )
    base = runs(1.0, 1.0)
    rest = {"compare": [base, base], "accept": [base, "--reason", "x"], "trend": [], "report": [base]}
    assert _run(command, *rest[command]) == ExitCode.USAGE
    assert "'resnt18-*', and there can be none. Did you mean 'resnet18'?" in capsys.readouterr().err
    # Beside it lie workloads of the project's own, whose names are not known without running its code.
    (here / "trtgate_workloads.py").write_text("raise RuntimeError('imported')")
    assert _run(command, *rest[command]) in (ExitCode.PASS, ExitCode.INCONCLUSIVE)


def test_the_size_limit_is_a_policy(runs, here, capsys):
    base = runs(1.0, 1.0)
    (here / "trtgate.toml").write_text("[store]\nmax_file_bytes = 100\n")
    assert _run("compare", base, base) == ExitCode.USAGE
    assert "larger than 100 bytes" in capsys.readouterr().err


def test_an_unwritable_report_is_a_clear_message(runs, here, capsys):
    base = runs(1.0, 1.0)
    assert _run("compare", base, base, "--json", here / "nowhere" / "c.json") == ExitCode.USAGE
    assert "cannot be written" in capsys.readouterr().err
    assert _run("report", base, "--json", "/dev/full") == ExitCode.USAGE
    assert "No space left" in capsys.readouterr().err


def test_a_step_summary_is_appended_to(runs, here, monkeypatch):
    base = runs(1.0, 1.0)
    (here / "summary.md").write_text("from an earlier step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    _run("compare", base, base, "--markdown", "summary.md")
    text = (here / "summary.md").read_text()
    assert text.startswith("from an earlier step\n")
    assert "trtgate compare" in text


def test_a_closed_pipe_is_not_a_regression(here, runs):
    base = runs(1.0, 1.0)
    script = f"{sys.executable} -m trtgate report {base} --json - | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"
    source = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode in (ExitCode.PASS, ExitCode.BROKEN_PIPE), done.stderr
    assert "Traceback" not in done.stderr


def test_a_defect_is_not_a_regression(monkeypatch, capsys):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.history, "accept", broken)
    assert _run("accept", "x", "--reason", "y") == ExitCode.INTERNAL
    assert "defect of trtgate" in capsys.readouterr().err


def test_ctrl_c_has_its_own_code(monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.history, "accept", interrupted)
    assert _run("accept", "x", "--reason", "y") == ExitCode.INTERRUPTED


@pytest.mark.parametrize("command", ["gate", "inspect", "bisect", "doctor", "compare", "accept", "trend", "report"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: trtgate {command}" in capsys.readouterr().out
