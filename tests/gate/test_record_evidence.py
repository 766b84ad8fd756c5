"""Stages of a recording that run processes at once, are interrupted and are gone on with."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import record_evidence
from benchmarks.recording import GRACE_S, Recording


@pytest.fixture
def recording(tmp_path):
    made = Recording(tmp_path / "out", tmp_path, (), (), pairs=0, builders=2, gpus=("0", "1"), until_s=None)
    for folder in (made.out, made.state):
        folder.mkdir()
    return made


def test_processes_that_run_at_once_take_turns_on_the_gpus_and_share_the_cores(recording):
    shown = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    assert recording.run("builds", [[sys.executable, "-c", shown]] * 3, at_once=2)
    threads = max(1, os.cpu_count() // 2)
    told = (recording.out / "builds.log").read_text().splitlines()
    assert sorted(line for line in told if not line.startswith("$")) == [f"{gpu} {threads}" for gpu in (0, 0, 1)]
    assert [entry["exit"] for entry in json.loads((recording.out / "stages.json").read_text())["builds"]] == [0, 0, 0]


def test_one_process_has_the_machine_as_it_is(recording):
    shown = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('OMP_NUM_THREADS'))"
    assert recording.run("matrix", [[sys.executable, "-c", shown]])
    expected = f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ.get('OMP_NUM_THREADS')}"
    assert (recording.out / "matrix.log").read_text().splitlines()[-1] == expected


def test_a_stage_is_interrupted_also_where_the_shell_had_interruptions_ignored(tmp_path):
    """As nohup and a shell's background jobs do."""
    script = """
import sys, time
from benchmarks import record_evidence

def slow(recording):
    return recording.run("slow", [[sys.executable, "-c", "import time; time.sleep(600)"]])

record_evidence.STAGES = {"slow": slow}
sys.exit(record_evidence.main(["slow", "--budget", "3", "--out", sys.argv[1], "--cache", sys.argv[2]]))
"""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "out", tmp_path / "cache"],
        check=False,
        cwd=record_evidence.ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "slow: not done" in ended.stdout
    assert time.monotonic() - began < GRACE_S / 2  # killed only if the interruption did nothing
