"""Stages of a recording are interrupted and gone on with."""

import json
import signal
import subprocess
import sys
import time

from benchmarks import record_evidence
from benchmarks.recording import GRACE_S, Recording


def test_the_commands_of_a_stage_run_one_after_the_other_and_leave_their_exit_codes(tmp_path):
    recording = Recording(tmp_path, tmp_path, (), (), pairs=0, builders=2, until_s=None)
    script = "import sys; print(sys.argv[1]); sys.exit(int(sys.argv[1]))"
    assert recording.run("layers", [[sys.executable, "-c", script, code] for code in ("0", "1")])
    told = (tmp_path / "layers.log").read_text().splitlines()
    assert [line for line in told if not line.startswith("$")] == ["0", "1"]
    assert [entry["exit"] for entry in json.loads((tmp_path / "stages.json").read_text())["layers"]] == [0, 1]


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
