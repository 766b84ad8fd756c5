"""Whole gates between installed environments: each side is its own interpreter with the trtgate that it holds."""

import json
import shutil
import sys
import sysconfig
import venv
from pathlib import Path

from trtgate.cli import ExitCode, main
from trtgate.gate.sides import own_root

CASE = "simple_cnn-eager-fp32-b1-stream"
INSTALLED = {"site-packages", "dist-packages"}


def _install(folder):
    """A virtual environment with a trtgate of its own, which tells where it is imported from; the rest is borrowed."""
    venv.EnvBuilder(symlinks=True).create(folder)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    shutil.copytree(own_root() / "trtgate", site / "trtgate", ignore=shutil.ignore_patterns("__pycache__"))
    module = site / "trtgate/workloads/simple_cnn.py"
    # How well it reads digits is of no interest here: hardly any training.
    source = module.read_text().replace("_STEPS = 600", "_STEPS = 20").replace("MIN_TOP1 = 0.95", "MIN_TOP1 = 0.0")
    module.write_text(f"{source}\nprint('imported', __file__)\n")
    # Named in a .pth, their folders come after the environment's own, and what they install editable stays out.
    borrowed = [path for path in sys.path if INSTALLED & set(Path(path).parts) and Path(path).is_dir()]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    return site


def test_two_environments_are_gated_and_each_runs_the_trtgate_that_is_installed_in_it(tmp_path, monkeypatch):
    installed = {role: _install(tmp_path / role) for role in ("base", "head")}
    monkeypatch.chdir(tmp_path)
    options = ["--device", "cpu", "--case", CASE, "--quantity", "parity", "--json", "gate.json", "--cache", "cache"]
    assert main(["gate", "env:base", "env:head", *options]) == ExitCode.PASS
    report = json.loads((tmp_path / "gate.json").read_text())
    assert [(entry["case"], entry["quantity"], entry["verdict"]) for entry in report["entries"]] == [
        (CASE, "parity", "same")
    ]
    assert not [note for note in report["notes"] if "identical code" in note]
    for role, log in (("base", "base"), ("twin", "base"), ("head", "head")):
        (printed,) = (tmp_path / "cache/gate_logs").glob(f"*/{role}-pair0.log")
        imported = [line for line in printed.read_text().splitlines() if line.startswith("imported ")]
        assert imported == [f"imported {installed[log]}/trtgate/workloads/simple_cnn.py"]
