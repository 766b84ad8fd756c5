"""The versions in ci/: what they claim to be is what a stored history says it was measured with."""

import json
import re
from pathlib import Path

from trtgate.policy import load
from trtgate.record import Identity

ROOT = Path(__file__).resolve().parents[1]
H100 = ROOT / "ci/constraints-h100-rtx-1.4.txt"


def _pinned(path):
    return dict(re.findall(r"^([\w-]+)==(\S+)", path.read_text(), re.MULTILINE))


def test_the_stack_of_the_h100_history_is_the_one_that_it_was_measured_with():
    pinned = _pinned(H100)
    runs = sorted((ROOT / "results").glob("*_rtx1.4.*/Linux-*/*.json"))
    assert runs
    for run in runs:
        stored = json.loads(run.read_text())
        identity = Identity.model_validate(stored["machine_info"]["trtgate"])
        assert identity.torch.partition("+")[0] == pinned["torch"]
        assert identity.torch_tensorrt == pinned["torch-tensorrt-rtx"]
        assert identity.tensorrt == pinned["tensorrt-rtx"]
        assert identity.onnxruntime == pinned["onnxruntime"]
        assert stored["version"] == pinned["pytest-benchmark"]
        # And it is the stack whose floors hold.
        assert load(ROOT / "trtgate.toml").floors_asleep(identity) == ()


def test_the_files_that_the_documents_name_exist():
    for document in (ROOT / "results/README.md", ROOT / "Makefile"):
        named = re.findall(r"ci/constraints[\w.-]*\.txt", document.read_text())
        assert named
        assert all((ROOT / name).is_file() for name in named)
