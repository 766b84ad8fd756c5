"""What the suite inspected, `trtgate inspect` shows at once."""

import subprocess
import sys
from pathlib import Path

from trtgate.case import Case
from trtgate.measure import kept_census
from trtgate.policy import find, load

ROOT = Path(__file__).parents[2]
CASE = Case.parse("mlp-tensorrt_engine-fp16-b1-stream")


def test_a_case_of_the_suite_is_recalled_without_building_it_again(tmp_path):
    proof = f"benchmarks/test_optimisation.py::test_micro_model[{CASE.workload}-{CASE.precision}]"
    command = [sys.executable, "-m", "pytest", proof, f"--cache-dir={tmp_path}", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    recalled = kept_census.recall(CASE, tmp_path, load(find(ROOT)).calibration)
    assert recalled is not None
    assert recalled.census.kernels > 0
    other = Case.parse("mlp-tensorrt_engine-fp32-b1-stream")
    assert kept_census.recall(other, tmp_path, load(find(ROOT)).calibration) is None
