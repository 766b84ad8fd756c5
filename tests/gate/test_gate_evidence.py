"""The recorder of evidence: once with made-up processes, and once with real ones on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tree import case_of, write_tree

from benchmarks import gate_evidence
from trtgate.case import Case
from trtgate.gate.member import Block, Member
from trtgate.judge.pairs import read_pairs
from trtgate.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
TIME_S, CLOCK_MHZ, LAUNCH = 1e-3, 1000, 0.004


class Machine:
    """Stands in for every worker: a busy kernel costs its launch and its cycles."""

    def __init__(self, monkeypatch):
        self.proven, self.probes = [], []
        for name in ("open", "close", "drop", "environment", "build", "parity", "warm_up", "sample"):
            does = getattr(self, f"_{name}")
            monkeypatch.setattr(Member, name, lambda _, *given, does=does: does(*given))

    def _open(self):
        pass

    _close = _open

    def _drop(self, names):
        pass

    def _environment(self, family):
        return {"sm_clock_mhz": [CLOCK_MHZ, CLOCK_MHZ]}

    def _build(self, builds):
        self.probes += [build.busy for build in builds if build.busy]

    def _parity(self, name):
        self.proven.append(name.removeprefix("proof of "))
        return {"passed": True}

    def _warm_up(self, name, quantity):
        return True

    def _sample(self, name, quantity, rounds):
        units = int(name.partition("+")[2] or 0)
        busy_s = units / (CLOCK_MHZ * 1e6) + LAUNCH * TIME_S if units else 0.0
        host_s = TIME_S / 2 if quantity == "latency" else 0.0
        return Block((TIME_S + host_s + busy_s,) * rounds, (), False)


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def _recorded(tmp_path, *options):
    path = tmp_path / "samples.jsonl"
    assert gate_evidence.main(["--samples", str(path), "--cache", str(tmp_path / "cache"), *options]) == 0
    return path


def test_a_recording_holds_every_case_with_the_slowdowns_that_it_names(machine, tmp_path, capsys):
    path = _recorded(tmp_path, "--pairs", "2", "--rounds", "5")
    pairs = read_pairs(path)
    assert {(pair.pair, pair.case) for pair in pairs} == {
        (pair, case) for pair in range(2) for case in (*gate_evidence.GRAPHED, *gate_evidence.UNGRAPHED)
    }
    assert {pair.arm for pair in pairs} == {"aa", "+3%", "+2%"}
    told = json.loads(path.with_suffix(".calibration.json").read_text())
    for case in gate_evidence.GRAPHED:
        for arm in gate_evidence.USUAL_ARMS:
            reached = told["reached"][case][arm]["measured"]
            assert reached == pytest.approx(gate_evidence.ARMS[arm], rel=0.1)
    recorded = 2 * len(gate_evidence.USUAL_ARMS) * len(gate_evidence.GRAPHED)
    assert len(machine.probes) - recorded <= 4 * len(gate_evidence.GRAPHED)  # each takes a GPU seconds
    assert "off by more" not in capsys.readouterr().out


def test_only_what_is_built_is_proven_again_and_again(machine, tmp_path):
    _recorded(tmp_path, "--pairs", "3", "--crews", "2", "--rounds", "5")
    for case in (*gate_evidence.GRAPHED, *gate_evidence.UNGRAPHED):
        times = 1 if Case.parse(case).backend == "eager" else 3
        assert machine.proven.count(case) == times * 2, case  # by either side


def test_pairs_are_added_with_the_units_of_those_that_are_there(machine, tmp_path):
    path = _recorded(tmp_path, "--pairs", "1", "--rounds", "5")
    units = json.loads(path.with_suffix(".calibration.json").read_text())["units"]
    machine.probes.clear()
    _recorded(tmp_path, "--pairs", "1", "--rounds", "5", "--append", "--arm", "+3%", "--arm", "+5%")
    after = json.loads(path.with_suffix(".calibration.json").read_text())
    for case, arms in units.items():
        assert arms.items() <= after["units"][case].items()
        assert after["units"][case].keys() == {"+2%", "+3%", "+5%"}
    assert {pair.arm for pair in read_pairs(path) if pair.pair == 1} == {"aa", "+3%", "+5%"}


def test_a_recording_that_was_stopped_before_its_first_pair_is_gone_on_with(machine, tmp_path):
    (tmp_path / "samples.jsonl").touch()
    path = _recorded(tmp_path, "--pairs", "1", "--rounds", "5", "--append")
    assert {pair.pair for pair in read_pairs(path)} == {0}


def test_an_arm_that_a_case_cannot_reach_is_left_out_and_said(machine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[__name__], "LAUNCH", 0.025)  # a launch alone is longer than 2%
    path = _recorded(tmp_path, "--pairs", "1", "--rounds", "5")
    told = json.loads(path.with_suffix(".calibration.json").read_text())
    assert all(arms.keys() == {"+3%"} for arms in told["units"].values())
    assert all(arms.keys() == {"+2%"} for arms in told["refused"].values())
    assert {pair.arm for pair in read_pairs(path)} == {"aa", "+3%"}
    assert "refused: {'+2%'" in capsys.readouterr().err


def test_a_case_that_no_busy_work_lengthens_is_recorded_without_power_arms(machine, tmp_path, monkeypatch, capsys):
    deaf = gate_evidence.GRAPHED[0]
    genuine = Member.sample

    def sample(member, name, *given):
        return genuine(member, deaf if name.startswith(deaf) else name, *given)

    monkeypatch.setattr(Member, "sample", sample)
    pairs = read_pairs(_recorded(tmp_path, "--pairs", "1", "--rounds", "5"))
    assert {pair.arm for pair in pairs if pair.case == deaf} == {"aa"}
    assert {pair.arm for pair in pairs if pair.case == gate_evidence.GRAPHED[1]} == {"aa", "+3%", "+2%"}
    assert f"does not lengthen {deaf}" in capsys.readouterr().err


def test_both_sides_are_one_tree_that_exports_once_and_builds_twice(tmp_path):
    args = gate_evidence._arguments(["--samples", "x", "--cache", str(tmp_path)])
    station = gate_evidence._station(args, Policy())
    assert station.provers == 2 * args.crews
    base, head = (gate_evidence._crew(0, args, station).members[role] for role in ("base", "head"))
    (base._cache() / "onnx" / "model.onnx").write_text("exported")
    (base._cache() / "plans").mkdir()
    assert (head._cache() / "onnx" / "model.onnx").exists()
    assert not (head._cache() / "plans").exists()


@pytest.mark.parametrize(("builds", "apart"), [((), 24), (("--builds", "8"), 8)])
def test_every_pair_has_builds_of_its_own_or_meets_new_ones_until_all_have_met(builds, apart):
    args = gate_evidence._arguments(["--samples", "x", *builds])
    crews = [gate_evidence._crew(pair, args, None) for pair in range(24)]
    met = [(crew.members["base"].generation, crew.members["head"].generation) for crew in crews]
    assert len(set(met)) == 24
    assert {base for base, _ in met[:apart]} == {head for _, head in met[:apart]} == set(range(apart))
    assert not any("fp32" in case for case in gate_evidence.GRAPHED)


def _record(tree, folder, *options):
    return subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks/gate_evidence.py",
            *("--samples", folder / "samples.jsonl", "--cache", folder / "cache"),
            *("--device", "cpu", "--case", case_of("small"), "--pairs", "1", *options),
            *("--off", "50"),  # a busy CPU resolves no 2%
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
    assert {(pair.pair, pair.arm) for pair in read_pairs(samples)} == {(0, arm) for arm in ("aa", "+2%", "+3%")}

    told = json.loads((tmp_path / "samples.calibration.json").read_text())
    assert set(told["units"][case_of("small")]) == set(told["reached"][case_of("small")]) == {"+2%", "+3%"}

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
