"""What a gate's CI job installs: where that fails, the job ends with 5 and a report, never with pip's 1."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
# Not this job's own interpreter, report folder and summary.
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "OUT", "GITHUB_STEP_SUMMARY")}

# Stands in for an interpreter that makes environments, and for pip in them.
_PYTHON = """#!/usr/bin/env bash
if [ "$2" = venv ]; then
  mkdir -p "$3/bin"
  cp "$0" "$3/bin/python"
else
  printf '%s' "$PRINTED" >&2
  exit "$ENDS"
fi
"""


@pytest.fixture
def install(tmp_path):
    """Runs ci/install.sh with a pip that prints and ends as it is told."""
    python = tmp_path / "python"
    python.write_text(_PYTHON)
    python.chmod(0o755)

    def run(*arguments, ends=1, printed="ERROR: No matching distribution found\n", **variables):
        environment = {**CLEAN, "PYTHON": str(python), "PRINTED": printed, "ENDS": str(ends), **variables}
        return _run([ROOT / "ci/install.sh", *arguments], tmp_path, environment)

    return run


def _run(command, folder, environment):
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_base_that_pip_cannot_install_ends_the_workflow_with_nothing_compared(tmp_path):
    job = yaml.safe_load((ROOT / ".github/workflows/gate.yml").read_text())["jobs"]["gate"]
    (step,) = (step for step in job["steps"] if step.get("name") == "Install")
    shutil.copytree(ROOT / "ci", tmp_path / "base/ci")
    (tmp_path / "base/pyproject.toml").write_text("[project\n")
    environment = {**CLEAN, **job["env"], **step["env"], "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    done = _run(["bash", "-e", "-c", step["run"]], tmp_path, environment)
    assert done.returncode == 5, done.stderr
    report = (tmp_path / "gate-report/gate.md").read_text()
    assert report.startswith("### trtgate gate: nothing compared\n\nThe base cannot be installed: ")
    assert "at the end of a table declaration" in report.splitlines()[-1]
    assert (tmp_path / "summary.md").read_text() == report
    # What ends the job is not hidden from whoever comments: the report is uploaded although a step failed.
    (upload,) = (step for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert (upload["if"], upload["with"]["path"]) == ("${{ !cancelled() }}", job["env"]["OUT"])


@pytest.mark.parametrize("ends", [1, 2, 137])
@pytest.mark.parametrize(
    ("side", "named"),
    [
        ("base", "The base cannot be installed"),
        ("head", "The head cannot be installed"),
        ("both", "What both sides share cannot be installed"),
    ],
)
def test_whatever_pip_ends_with_it_is_no_regression_and_the_side_is_named(install, tmp_path, side, named, ends):
    done = install(side, "env", "./tree[rtx]", "--no-index", ends=ends)
    assert done.returncode == 5
    assert f"gate: {named}: 'pip install ./tree[rtx] --no-index' in env ended with {ends}." in done.stderr
    report = (tmp_path / "gate-report/gate.md").read_text()
    assert named in report
    assert report.endswith("\n- ERROR: No matching distribution found\n")


def test_what_can_be_installed_leaves_no_report(install, tmp_path):
    done = install("base", "env", "trtgate", ends=0)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "gate-report").exists()


def test_an_environment_that_cannot_be_made_is_no_regression(install, tmp_path):
    (tmp_path / "env").write_text("a file is in the way")
    assert install("base", "env", "trtgate").returncode == 5
    assert "env" in (tmp_path / "gate-report/gate.md").read_text()


def test_an_earlier_gates_reports_do_not_stand_beside_it(install, tmp_path):
    (tmp_path / "gate-report").mkdir()
    for name in ("gate.md", "gate.xml", "gate.json", "samples.jsonl"):
        (tmp_path / "gate-report" / name).write_text("all the same")
    install("head", "env", "trtgate")
    assert [path.name for path in (tmp_path / "gate-report").iterdir()] == ["gate.md"]
    assert "all the same" not in (tmp_path / "gate-report/gate.md").read_text()


def test_a_report_that_cannot_be_written_changes_no_exit_code(install, tmp_path):
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file/report")
    done = install("base", "env", "trtgate", OUT=nowhere, GITHUB_STEP_SUMMARY=nowhere)
    assert done.returncode == 5
    assert f"{nowhere}/gate.md cannot be written" in done.stderr


def test_what_a_build_prints_acts_nowhere(install, tmp_path):
    printed = "\x1b[31m<img src=x> ![a](b) `c`\x1b[0m\r\n# heading\n\n" + "long " * 5000 + "\n@team & | *end*"
    install("head", "env", "./head", printed=printed)
    report = (tmp_path / "gate-report/gate.md").read_text()
    assert report.endswith("\n- @team &amp; \\| \\*end\\*\n")
    assert len(report) < 6000
    install("head", "env", "./head", printed=printed.replace("long ", ""))
    assert (
        "\n- &lt;img src=x&gt; !\\[a\\](b) &#96;c&#96;\n- \\# heading\n"
        in (tmp_path / "gate-report/gate.md").read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "why"), [(["base", "env"], "2 arguments"), (["left", "env", "x"], "'left' is no")]
)
def test_arguments_that_mean_nothing_are_usage(install, arguments, why):
    done = install(*arguments)
    assert done.returncode == 2
    assert why in done.stderr


def test_an_interpreter_without_trtgate_is_no_regression(tmp_path):
    venv.EnvBuilder(symlinks=True).create(tmp_path / "env")
    environment = {**CLEAN, "PYTHON": str(tmp_path / "env/bin/python")}
    environment.pop("PYTHONPATH", None)
    done = _run([ROOT / "ci/gate.sh", "main"], tmp_path, environment)
    assert done.returncode == 5
    assert "cannot import trtgate, which judges. Install it there (ci/install.sh)" in done.stderr
    assert "No module named 'trtgate'" in (tmp_path / "gate-report/gate.md").read_text()


def test_a_folder_for_reports_that_cannot_be_made_is_usage(tmp_path):
    (tmp_path / "file").touch()
    done = _run([ROOT / "ci/gate.sh", "main"], tmp_path, {**CLEAN, "OUT": str(tmp_path / "file/report")})
    assert done.returncode == 2
    assert "file/report cannot be written. Name another folder with OUT." in done.stderr


def test_no_gating_job_of_ours_calls_pip_itself():
    jobs = [ROOT / ".github/workflows/gate.yml", ROOT / "docs/gitlab.md", ROOT / "docs/slurm.md"]
    assert not [path.name for path in jobs if "pip install" in path.read_text()]
