"""Whole gates on the CPU: real worker processes, real trees, one gate for many kinds of change."""

import argparse
import json
from pathlib import Path

import pytest
from tree import case_of, write_tree

from trtgate.case import Quantity
from trtgate.commands import gate as command
from trtgate.errors import NothingComparedError
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.sides import SideError
from trtgate.judge.pairs import read_pairs


@pytest.fixture(scope="module")
def run_gate(tmp_path_factory):
    def run(*arguments: str | Path):
        folder = tmp_path_factory.mktemp("run")
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        files = {f"--{form}": folder / form for form in ("json", "markdown", "junit", "samples")}
        options = [str(part) for option in files.items() for part in option]
        args = parser.parse_args([*map(str, arguments), "--device", "cpu", "--cache", str(folder / "cache"), *options])
        outcome = command.run(args)
        return outcome, json.loads(files["--json"].read_text()), folder

    return run


@pytest.fixture(scope="module")
def many_changes(run_gate, tmp_path_factory):
    trees = tmp_path_factory.mktemp("trees")
    base = {
        "killed": "layers=2",
        "untouched": "layers=20",
        "slower": "layers=20",
        "vanished": "layers=2",
        "not_a_number": "layers=2",
        "optimised": "layers=1",
        "not_here": "layers=2",
        "shrunk": "layers=2",
    }
    head = {
        # Enough calls for the parity check; killed while it is timed, in the middle of everything.
        "killed": "layers=2, calls_until_killed=40",
        "untouched": "layers=20",
        "slower": "layers=60",
        "not_a_number": "layers=2, nan=True",
        "optimised": "layers=8",
        "added": "layers=2",
        "not_here": "layers=2",
        "shrunk": "layers=2, fewer=2",
    }
    backends = {"optimised": "onnxruntime", "not_here": "tensorrt_engine"}
    return run_gate(write_tree(trees / "base", base, backends), write_tree(trees / "head", head, backends))


def _entry(report, name, quantity=None):
    named = [case_of(name, backend) for backend in ("eager", "onnxruntime", "tensorrt_engine")]
    found = [e for e in report["entries"] if e["case"] in named and quantity in (None, e["quantity"])]
    assert len(found) == 1, found
    return found[0]


pytestmark = pytest.mark.slow


def test_a_slower_side_is_found_and_fails_the_gate(many_changes):
    outcome, report, _ = many_changes
    assert outcome is GateOutcome.REGRESSION
    entry = _entry(report, "slower", Quantity.LATENCY)
    assert entry["verdict"] == "slower"
    assert entry["low"] > 1.3


def test_what_did_not_change_is_no_regression(many_changes):
    _, report, _ = many_changes
    assert _entry(report, "untouched", Quantity.LATENCY)["verdict"] in ("same", "inconclusive")
    assert _entry(report, "untouched", Quantity.PARITY)["verdict"] == "same"
    assert report["environment"]["verdict"] == "same"


def test_a_case_that_vanished_is_missing_although_the_head_no_longer_lists_it(many_changes):
    _, report, _ = many_changes
    entry = _entry(report, "vanished")
    assert (entry["verdict"], entry["passes"]) == ("missing", False)
    assert "Unknown workload 'vanished'" in entry["reason"]


def test_a_case_that_only_the_head_has_is_new(many_changes):
    _, report, _ = many_changes
    assert _entry(report, "added")["verdict"] == "new"


def test_a_case_that_was_named_and_that_nobody_can_run_here_is_no_pass(many_changes):
    _, report, _ = many_changes
    entry = _entry(report, "not_here")
    assert (entry["verdict"], entry["code"], entry["passes"]) == ("invalid", "skipped", False)
    assert report["skipped"] == {}


def test_outputs_that_are_not_a_number_fail_before_anything_is_timed(many_changes):
    _, report, folder = many_changes
    entry = _entry(report, "not_a_number")
    assert entry["verdict"] == "missing"
    assert "not finite" in entry["reason"]
    assert not [pair for pair in read_pairs(folder / "samples") if pair.case == case_of("not_a_number")]


def test_a_head_that_computes_less_is_no_faster_one(many_changes):
    _, report, folder = many_changes
    entry = _entry(report, "shrunk")
    assert (entry["verdict"], entry["passes"]) == ("missing", False)
    assert "it computes something else: its input 'x' is" in entry["reason"]
    assert not [pair for pair in read_pairs(folder / "samples") if pair.case == case_of("shrunk")]


def test_a_worse_optimised_model_is_found_without_a_clock(many_changes):
    _, report, _ = many_changes
    entry = _entry(report, "optimised", Quantity.OPTIMISATION)
    assert entry["verdict"] == "slower"
    assert "kernels" in entry["reason"]


def test_a_killed_worker_fails_its_case_on_its_side_and_the_rest_go_on(many_changes):
    _, report, _ = many_changes
    entry = _entry(report, "killed")
    assert entry["verdict"] == "missing"
    assert "worker process of the head side was killed by SIGKILL" in entry["reason"]
    # The cases after it in the list were measured by the worker that took its place.
    assert _entry(report, "slower", Quantity.LATENCY)["pairs"] >= 3


def test_samples_are_kept_as_pairs_that_the_judge_reads(many_changes):
    _, _, folder = many_changes
    pairs = [pair for pair in read_pairs(folder / "samples") if pair.case == case_of("slower")]
    assert {pair.arm for pair in pairs} == {"aa", "head"}
    assert {pair.pair for pair in pairs} >= {0, 1, 2}
    assert all(len(pair.base) == len(pair.head) == 4 and len(pair.base[0]) == 40 for pair in pairs)


def test_the_report_tells_how_long_a_case_takes(many_changes):
    _, report, _ = many_changes
    cases = {entry["case"] for entry in report["entries"]}
    assert report["seconds_a_case"] == pytest.approx(report["elapsed_s"] / len(cases))
    assert report["elapsed_s"] > 1


def test_every_form_of_the_report_is_written(many_changes):
    _, _, folder = many_changes
    assert case_of("slower") in (folder / "markdown").read_text()
    assert "<failure" in (folder / "junit").read_text()


def test_a_base_that_cannot_be_imported_is_no_gate(run_gate, tmp_path):
    head = write_tree(tmp_path / "head", {"small": "layers=2"})
    base = write_tree(tmp_path / "base", {"small": "layers=2"})
    (base / "torch.py").write_text("raise ImportError('this tree shadows torch')\n")
    with pytest.raises(SideError, match=r"base side .*this tree shadows torch"):
        run_gate(base, head)


def test_a_head_that_cannot_be_imported_is_a_regression(run_gate, tmp_path):
    base = write_tree(tmp_path / "base", {"small": "layers=2"})
    head = write_tree(tmp_path / "head", {"small": "layers=2"})
    (head / "trtgate_workloads.py").write_text("import no_such_module_anywhere\n")
    outcome, report, _ = run_gate(base, head)
    assert outcome is GateOutcome.REGRESSION
    entry = _entry(report, "small")
    assert entry["verdict"] == "missing"
    assert "no_such_module_anywhere" in entry["reason"]


def test_cases_that_neither_side_can_run_compare_nothing(run_gate, tmp_path):
    base = write_tree(tmp_path / "base", {"small": "layers=2"})
    head = write_tree(tmp_path / "head", {"small": "layers=2"})
    with pytest.raises(NothingComparedError, match="graph"):
        run_gate(base, head, "--case", "small-eager-fp32-b4-graph")
