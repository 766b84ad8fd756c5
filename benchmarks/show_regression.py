"""Shows that the gate catches a real regression: this tree against a copy in which fp16 models fall back to float32.

    python -m benchmarks.show_regression [CASE ...] [--eight] [--sound] [--cache FOLDER] [--out FOLDER]

The copy differs by one edit, of the kind that passes review: every second convolution or linear layer of an fp16 module
is wrapped into casts, "to be safe". The model stays right, so parity has nothing to say; the gate has to see that it
became slower, and the engine's census names the layers. (A network as small as simple_cnn does not become slower: there
the census is all that tells.)

One case by default, which takes a GPU least time. ``--eight`` takes eight cases, which share their worker processes:
the number for which a gate's wall time a case is promised. The gate's regression.json holds that time.

``--sound`` leaves the copy without the fault and judges plan and memory too: identical code, which must pass.

Exit codes: 0 the gate said regression (its exit code 1) and found every case slower, or its layers worse, or with
``--sound`` said pass; 1 anything else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

DEFAULT_CASES: Final = ("resnet18-tensorrt_engine-fp16-b8-graph",)
EIGHT_CASES: Final = (
    *DEFAULT_CASES,
    "simple_cnn-tensorrt_engine-fp16-b8-graph",
    "resnet50-tensorrt_engine-fp16-b8-graph",
    "mobilenet_v3_small-tensorrt_engine-fp16-b8-graph",
    "vit_b_16-tensorrt_engine-fp16-b8-graph",
    "transformer-tensorrt_engine-fp16-b8s128-graph",
    "resnet18-tensorrt_engine-fp16-b1-graph",
    "resnet50-tensorrt_engine-fp16-b1-graph",
)
QUANTITIES: Final = ("parity", "optimisation")
_EDITED: Final = Path("trtgate/precision/cast.py")
_SOUND: Final = "    return module.to(dtype_of(precision)).eval().requires_grad_(False)\n"
_FAULTY: Final = "    return _safely(module.to(dtype_of(precision)), precision).eval().requires_grad_(False)\n"
_FAULT: Final = """

class _InFloat32(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.float()).half()


def _safely(module: torch.nn.Module, precision: Precision) -> torch.nn.Module:
    if precision is Precision.FP16:
        kinds = (torch.nn.Conv2d, torch.nn.Linear)
        # No subclass: attention reads its output projection's weight without calling it.
        for name in [name for name, layer in module.named_modules() if type(layer) in kinds][1::2]:
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, _InFloat32(module.get_submodule(name)))
    return module
"""


def copy_of(tree: Path, folder: Path) -> Path:
    """A copy of a tree, without what is no code."""
    head = folder / "head"
    shutil.copytree(
        tree, head, ignore=shutil.ignore_patterns(".*", "__pycache__", "results", "*.egg-info", "gate-report")
    )
    return head


def plant_fault(head: Path) -> None:
    """Edit a tree as described above.

    Raises:
        RuntimeError: the line to edit is not there any more; mend this script.
    """
    text = (head / _EDITED).read_text(encoding="utf-8")
    if _SOUND not in text:
        raise RuntimeError(f"{_EDITED} no longer contains: {_SOUND.strip()}")
    (head / _EDITED).write_text(text.replace(_SOUND, _FAULTY) + _FAULT, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gate; the exit code."""
    parser = argparse.ArgumentParser(prog="show_regression", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("cases", nargs="*", help="fp16 case ids; each must come out worse")
    parser.add_argument("--eight", action="store_true", help="eight cases instead of one, to state the time of a case")
    parser.add_argument("--sound", action="store_true", help="plant no fault: the gate must pass")
    parser.add_argument("--cache", type=Path, default=Path(".trtgate"), help="folder for artefacts")
    parser.add_argument("--out", type=Path, default=Path("gate-report"), help="folder for the gate's reports")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="on a CPU latency is judged")
    options = parser.parse_args(arguments)
    cases = options.cases or (EIGHT_CASES if options.eight else DEFAULT_CASES)
    options.out.mkdir(parents=True, exist_ok=True)
    report = options.out.absolute() / "regression.json"
    report.unlink(missing_ok=True)  # an earlier gate's must not be read as this one's
    tree = Path(__file__).resolve().parents[1]
    timed = "device" if options.device == "cuda" else "latency"
    quantities = (timed, *QUANTITIES, "plan", "memory") if options.sound else (timed, *QUANTITIES)
    with tempfile.TemporaryDirectory() as folder:
        head = copy_of(tree, Path(folder))
        if not options.sound:
            plant_fault(head)
        command = [sys.executable, "-m", "trtgate", "gate", f"path:{tree}", f"path:{head}", "--device", options.device]
        command += ["--cache", str(options.cache.absolute()), "--json", str(report)]
        command += ["--markdown", str(report.with_suffix(".md")), "--junit", str(report.with_suffix(".xml"))]
        command += [f"--case={case}" for case in cases] + [f"--quantity={one}" for one in quantities]
        status = subprocess.run(command, check=False, cwd=tree).returncode  # noqa: S603 - built above
    if options.sound:
        print(f"The gate's exit code is {status}.")
        return 0 if status == 0 else 1
    worse: dict[str, set[str]] = {timed: set(), "optimisation": set()}
    if report.is_file():
        told = json.loads(report.read_text(encoding="utf-8"))
        print(f"Wall time: {told['elapsed_s']:.0f} s, {told['seconds_a_case']:.0f} s a case.")
        for entry in told["entries"]:
            if entry["verdict"] == "slower" and entry["quantity"] in worse:
                worse[entry["quantity"]].add(entry["case"])
    print(f"The gate's exit code is {status}.")
    for quantity, found in worse.items():
        print(f"Worse in {quantity}: {', '.join(sorted(found)) or 'none'}.")
    missed = set(cases) - set().union(*worse.values())
    return 0 if status == 1 and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
