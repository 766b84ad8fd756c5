"""A full disk behind standard output is a message and a usage error, not a defect."""

import subprocess
import sys
from pathlib import Path

import pytest

from trtgate.gate.sides import own_root
from trtgate.store.history import RunStatus, save_run

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("command", [["trend"], ["trend", "--summary"], ["trend", "--json", "-"]])
def test_what_cannot_be_printed_is_said(command, make_record, tmp_path):
    save_run(tmp_path, [make_record()], status=RunStatus.PASSED)
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trtgate", *command, "--store", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=own_root(),
        )
    assert (done.returncode, "cannot be written: No space left on device" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
