"""The script that times a million records, on fewer of them."""

import subprocess
import sys
from pathlib import Path

import trtgate


def test_the_script_for_a_million_records_checks_itself():
    source = Path(trtgate.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "benchmarks/million_records.py", "--cases", "20", "--commits", "150", "--limit-s", "120"],
        capture_output=True,
        text=True,
        cwd=source,
        env={"PYTHONPATH": str(source)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 planted steps found within 3 runs" in done.stdout
