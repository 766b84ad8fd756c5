"""`make` installs into an environment and runs what it installed there, whatever made the environment."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOALS = {
    "bench": ("python -m pytest benchmarks",),
    "test": ("python -m pytest tests",),
    "test-all": ("python -m pytest tests",),
    "lint": ("ruff check", "ruff format", "mypy", "lint-imports"),
}


@pytest.fixture
def environment(tmp_path):
    """A finished environment whose tools tell how they were called."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "lint-imports"):
        tool = folder / "bin" / name
        tool.write_text(f'#!/bin/sh\necho "own {name} $@"\n')
        tool.chmod(0o755)
    for stamp in (".bench", ".dev"):  # in this order: the second needs the first
        (folder / stamp).touch()
    return folder


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("where", ["argument", "exported"])
def test_a_goal_runs_in_the_environment_that_it_installed_into(environment, goal, where):
    other = f"PYTHON={sys.executable}"
    command = ["make", goal, f"VENV={environment}", *([other] if where == "argument" else [])]
    exported = {"PYTHON": sys.executable} if where == "exported" else {}
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VENV", "MAKEFLAGS")}
    done = subprocess.run(
        command, cwd=ROOT, env=inherited | exported, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, shlex.join(command) + done.stdout + done.stderr
    for tool in GOALS[goal]:
        assert f"own {tool}" in done.stdout


@pytest.mark.parametrize("script", ["bench", "nightly"])
def test_an_interpreter_without_the_suite_is_told_before_anything_runs(tmp_path, script):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    done = subprocess.run(
        [ROOT / "ci" / f"{script}.sh"],
        env=os.environ | {"PYTHON": bare, "PYTHONPATH": "", "OUT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{script}: {bare} cannot run the benchmarks: ModuleNotFoundError: No module named 'pytest'." in done.stderr
    assert "Run 'make install'" in done.stderr
