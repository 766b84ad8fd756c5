"""Calls git, and answers where it fails or is not installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    """What git prints, or the empty string where it fails or is not installed."""
    done = run_git(folder, *arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; its messages are in English, and exit code 127 means that it is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")
