"""The recorder of evidence, with real processes on the CPU: a busy loop stands where the GPU has a busy kernel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tree import case_of, write_tree

from trtgate.judge.pairs import read_pairs

ROOT = Path(__file__).resolve().parents[2]


def _record(tree, folder, *options):
    return subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks/gate_evidence.py",
            *("--samples", folder / "samples.jsonl", "--cache", folder / "cache"),
            *("--device", "cpu", "--case", case_of("small"), "--pairs", "1", *options),
        ],
        env={**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_pairs_are_recorded_with_lengthened_arms_and_added_to(tmp_path):
    tree = write_tree(tmp_path / "tree", {"small": "layers=4"})
    done = _record(tree, tmp_path)
    assert done.returncode == 0, done.stderr
    samples = tmp_path / "samples.jsonl"
    assert {(pair.pair, pair.arm) for pair in read_pairs(samples)} == {(0, arm) for arm in ("aa", "+2%", "+3%", "+5%")}

    told = json.loads((tmp_path / "samples.calibration.json").read_text())
    units = list(told["units"][case_of("small")].values())
    assert units == sorted(units)
    assert units[-1] > 1
    assert set(told["reached"][case_of("small")]) == {"+2%", "+3%", "+5%"}

    again = _record(tree, tmp_path)
    assert again.returncode == 1
    assert "exists. Say --append" in again.stderr

    with samples.open("a") as file:
        file.write('{"pair": 1, "case": "sma')  # a recording that was killed
    added = _record(tree, tmp_path, "--append")
    assert added.returncode == 0, added.stderr
    assert "1 lines are taken away" in added.stderr
    assert {pair.pair for pair in read_pairs(samples)} == {0, 1}
    assert json.loads((tmp_path / "samples.calibration.json").read_text())["units"] == told["units"]


def test_each_side_meets_the_other_in_new_builds_until_all_have_met():
    from benchmarks import gate_evidence

    args = gate_evidence._arguments(["--samples", "x"])
    crews = [gate_evidence._crew(pair, args, None) for pair in range(24)]
    met = [(crew.members["base"].generation, crew.members["head"].generation) for crew in crews]
    assert len(set(met)) == 24
    assert {base for base, _ in met[:8]} == {head for _, head in met[:8]} == set(range(8))
    assert not any("fp32" in case for case in gate_evidence.GRAPHED)
