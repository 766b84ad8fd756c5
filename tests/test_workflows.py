"""The CI files: they parse, the scripts are sound, and strangers' code gets nothing from the workflows."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = sorted((ROOT / "ci").glob("*.sh"))


def _load(path):
    found = yaml.safe_load(path.read_text())
    found["on"] = found.pop(True, found.get("on"))  # YAML 1.1 reads the key "on" as true
    return found


def _steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def _names(paths):
    return [path.name for path in paths]


@pytest.mark.parametrize("path", WORKFLOWS, ids=_names(WORKFLOWS))
class TestEveryWorkflow:
    def test_grants_nothing_but_reading_by_default(self, path):
        assert _load(path)["permissions"] in ({}, {"contents": "read"})

    def test_never_runs_with_a_token_that_can_write_on_foreign_code(self, path):
        workflow = _load(path)
        assert "pull_request_target" not in workflow["on"]
        if "pull_request" in workflow["on"]:
            assert all("permissions" not in job for job in workflow["jobs"].values())
            assert "secrets." not in path.read_text()

    def test_pins_every_action_and_limits_every_job(self, path):
        for step in _steps(_load(path)):
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        assert all(job["timeout-minutes"] <= 120 for job in _load(path)["jobs"].values())

    def test_puts_no_expression_into_a_script(self, path):
        # What GitHub substitutes into a script is executed by it; values go through the environment.
        assert not [step for step in _steps(_load(path)) if "${{" in step.get("run", "")]

    def test_leaves_no_token_behind_for_the_code_that_runs(self, path):
        for name, job in _load(path)["jobs"].items():
            if job.get("permissions", {}).get("contents") == "write":
                continue
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"]["persist-credentials"] is False, name

    def test_calls_only_scripts_that_exist(self, path):
        for script in re.findall(r"(?<![\w/])(?:base/)?((?:\.ci|ci)/[\w.]+)", path.read_text()):
            assert (ROOT / script).is_file(), script


def test_foreign_code_waits_for_a_person_before_it_reaches_the_gpu():
    job = _load(ROOT / ".github/workflows/gate.yml")["jobs"]["gate"]
    assert "self-hosted" in job["runs-on"]
    assert job["environment"].endswith("'gpu' || 'gpu-forks' }}")
    assert "head.repo.full_name == github.repository" in job["environment"]


def test_the_base_is_what_the_change_was_merged_into(tmp_path):
    steps = _steps(_load(ROOT / ".github/workflows/gate.yml"))
    checkouts = {step["with"]["path"]: step for step in steps if "checkout" in step.get("uses", "")}
    (finds,) = (step for step in steps if step.get("id") == "merged")
    assert "ref" not in checkouts["head"]["with"]  # the merge that GitHub made
    assert checkouts["head"]["with"]["fetch-depth"] == 2
    assert checkouts["base"]["with"]["ref"] == "${{ steps.merged.outputs.base }}"
    assert steps.index(checkouts["head"]) < steps.index(finds) < steps.index(checkouts["base"])
    # Nothing runs before the base, whose code judges, is there: neither the change's code nor a hook of its.
    removes = steps[0]
    assert removes["run"] == "rm -rf gate-report"  # of an earlier change: what is uploaded is commented as this one's
    assert [step for step in steps[: steps.index(checkouts["base"])] if "run" in step] == [removes, finds]

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        command = ["git", "-C", tmp_path / "head", *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "head").mkdir()
    git("init", "-q")
    for message in ("opened", "merged by others meanwhile"):
        git("commit", "-q", "--allow-empty", "-m", message)
    base = git("rev-parse", "HEAD")
    git("switch", "-qc", "change", "HEAD^")
    git("commit", "-q", "--allow-empty", "-m", "the change")
    git("switch", "-q", "main")
    git("merge", "-q", "--no-ff", "change", "-m", "as GitHub merges")
    environment = {**os.environ, "GITHUB_OUTPUT": str(tmp_path / "output")}
    subprocess.run(["bash", "-e", "-c", finds["run"]], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "output").read_text() == f"base={base}\n"


def test_the_history_does_not_change_what_is_tracked(tmp_path):
    (step,) = (
        s for s in _steps(_load(ROOT / ".github/workflows/nightly.yml")) if "history/results" in s.get("run", "")
    )
    for folder in (tmp_path, tmp_path / "history"):
        (folder / "results/h100").mkdir(parents=True)
        (folder / "results/README.md").write_text(f"of {folder.name}")
    (tmp_path / "history/results/h100/0007.json").write_text("a night")
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=tmp_path, check=True)
    assert (tmp_path / "results/README.md").read_text() == f"of {tmp_path.name}"
    assert (tmp_path / "results/h100/0007.json").read_text() == "a night"


def test_whoever_comments_runs_no_code_of_the_pull_request():
    workflow = _load(ROOT / ".github/workflows/gate-comment.yml")
    assert workflow["on"]["workflow_run"]["workflows"] == [_load(ROOT / ".github/workflows/gate.yml")["name"]]
    assert not [step for step in _steps(workflow) if "checkout" in step.get("uses", "")]


@pytest.mark.parametrize("path", SCRIPTS, ids=_names(SCRIPTS))
def test_scripts_parse_and_stop_at_the_first_error(path):
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    assert "\nset -euo pipefail\n" in text
    assert text.split("\n")[1].startswith("# ")  # what it does stands in front
    assert os.access(path, os.X_OK)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


def test_the_gate_script_hands_on_the_exit_code_of_a_ref_that_does_not_exist(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [ROOT / "ci/gate.sh", "no-such-ref"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "no-such-ref" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_gate_script_shows_nothing_of_an_earlier_gate(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("gate.md", "gate.xml", "gate.json", "samples.jsonl"):
        (tmp_path / "out" / name).write_text("all the same")
    summary = tmp_path / "summary.md"
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "PYTHONPATH": str(ROOT)}
    environment["GITHUB_STEP_SUMMARY"] = str(summary)
    command = [ROOT / "ci/gate.sh", "no-such-ref"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert not summary.exists()
    assert list((tmp_path / "out").iterdir()) == []


_PYTHON = """#!/usr/bin/env bash
# Stands in for the interpreter: exit codes by what is called.
case "$*" in
  "-m pytest"*) exit "$MEASURED" ;;
  "-m trtgate trend"*) exit "$TREND" ;;
esac
"""


@pytest.mark.parametrize(("measured", "trend", "ends"), [(0, 0, 0), (1, 0, 1), (1, 4, 1), (0, 4, 4)])
def test_a_report_that_fails_does_not_hide_how_the_measurement_ended(tmp_path, measured, trend, ends):
    shutil.copytree(ROOT / "ci", tmp_path / "ci")
    (tmp_path / "python").write_text(_PYTHON)
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PYTHON": str(tmp_path / "python"), "OUT": str(tmp_path / "out")}
    environment |= {"MEASURED": str(measured), "TREND": str(trend)}
    done = subprocess.run([tmp_path / "ci/nightly.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stderr
    said = f"the measurement ended with exit code {measured}, and a report failed with {trend}"
    assert (said in done.stderr) is (trend != 0)


def test_slow_tests_are_run_by_a_machine_too():
    """`make test`, which runs on every change, leaves them out."""
    scheduled = [found for found in map(_load, WORKFLOWS) if "schedule" in found["on"]]
    assert [step for found in scheduled for step in _steps(found) if step.get("run") == "make test-all"]


def test_nightly_installs_what_its_reports_need():
    (install,) = (s["run"] for s in _steps(_load(ROOT / ".github/workflows/nightly.yml")) if s.get("name") == "Install")
    assert {"history", "quantize"} <= set(install.partition("EXTRAS=")[2].split(","))


def test_nightly_asks_for_the_quantised_rows(tmp_path):
    shutil.copytree(ROOT / "ci", tmp_path / "ci")
    (tmp_path / "python").write_text('#!/usr/bin/env bash\nif [ "$2" = pytest ]; then echo "$*" > command; fi\n')
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PYTHON": str(tmp_path / "python"), "OUT": str(tmp_path / "out")}
    subprocess.run([tmp_path / "ci/nightly.sh", "--batch", "4"], env=environment, check=True)
    command = (tmp_path / "command").read_text().split()
    assert "--quantised" in command  # tests/fixtures/test_matrix.py: what it means
    assert command[-2:] == ["--batch", "4"]


def test_the_gate_installs_without_a_makefile_of_ours():
    steps = _steps(_load(ROOT / ".github/workflows/gate.yml"))
    (install,) = (step for step in steps if step.get("name") == "Install")
    assert "make" not in install["run"]
    assert install["run"] == 'base/ci/install.sh base base/.venv "$TRTGATE"'  # tests/test_gate_install.py runs it


def test_the_guide_and_the_workflow_ask_for_approval_before_there_is_a_runner():
    guide = " ".join((ROOT / "docs/guide-ten-minutes.md").read_text().split())
    setting = "Require approval for all external contributors"
    assert setting in guide
    assert guide.index(setting) < guide.index("self-hosted runner](")
    assert setting in (ROOT / ".github/workflows/gate.yml").read_text()


_GH = """#!/usr/bin/env bash
# Stands in for GitHub: remembers issues in a file.
case "$1 $2" in
  "issue list") jq -s . "$STORE" ;;
  "issue create") jq -n --arg title "$4" --arg body "$6" '{title: $title, body: $body}' >> "$STORE" ;;
esac
"""


@pytest.fixture
def nights(tmp_path):
    """Runs the script on one night's change points and returns the titles of all issues so far."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(_GH)
    (tmp_path / "bin/gh").chmod(0o755)
    store = tmp_path / "store"
    store.touch()
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "STORE": str(store)}

    def night(*changes):
        shared = {"case": "resnet18-eager-fp16-b8-graph", "quantity": "device", "stack": "h100", "before": "a" * 40}
        shared |= {"ratio": 1.05, "low": 1.04, "high": 1.06, "confidence": 0.99, "runs_after": 4}
        points = [{**shared, **change} for change in changes]
        (tmp_path / "trend.json").write_text(json.dumps({"change_points": points}))
        subprocess.run([ROOT / "ci/open_issues.sh", tmp_path / "trend.json"], env=environment, check=True)
        decoder, text, found = json.JSONDecoder(), store.read_text(), []
        while text.strip():
            issue, end = decoder.raw_decode(text.lstrip())
            text = text.lstrip()[end:]
            found.append(issue["title"])
        return found

    return night


def _step(after, *candidates, **fields):
    return {"after": after * 40, "candidates": [sha * 40 for sha in (*candidates, after)], **fields}


def _title(sha, *, way="slower", stack="h100"):
    return f"Performance change: resnet18-eager-fp16-b8-graph device {way} at {sha * 12} on {stack}"


def test_one_issue_a_change_point_however_often_it_runs(nights):
    for _ in range(2):
        assert nights(_step("b"), _step("c")) == [_title("b"), _title("c")]


def test_an_issue_names_the_host_where_the_history_is_of_one(nights, tmp_path):
    nights(_step("b", host=""), _step("c", host="CPU x, threads 16"))
    bodies = (tmp_path / "store").read_text()
    assert re.findall(r"Stack: (.*?)\\n", bodies) == ["h100.", "h100; CPU x, threads 16."]


def test_a_step_on_a_second_host_is_an_issue_of_its_own(nights):
    first, second = ({"host": f"CPU {name}, threads 16"} for name in "xy")
    assert nights(_step("b", **first)) == [_title("b")]
    assert nights(_step("b", **first), _step("b", **second)) == [_title("b")] * 2
    assert nights(_step("b", **second), _step("b", **first)) == [_title("b")] * 2
    assert nights(_step("b", host="")) == [_title("b")] * 3


def test_a_step_whose_place_moves_with_more_nights_is_the_same_issue(nights):
    assert nights(_step("c", "a", "b", "d", "e")) == [_title("c")]
    assert nights(_step("d", "d")) == [_title("c")]  # the first night held it possible
    assert nights(_step("f", "c", "e")) == [_title("c")]  # this night holds the first night's place possible
    known = [_title("c"), _title("9")]
    assert nights(_step("9", "8")) == known
    assert nights(_step("c", ratio=0.9), _step("c", stack="l4")) == [
        *known,
        _title("c", way="faster"),
        _title("c", stack="l4"),
    ]
