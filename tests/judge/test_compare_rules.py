"""The script that puts our rule beside the others' tells the truth about samples whose truth is known."""

import json

import numpy as np
import pytest

from benchmarks import compare_rules, peer_rates
from trtgate.case import Execution, Quantity
from trtgate.judge.pairs import read_pairs
from trtgate.judge.resampling import Scenario, from_pairs, over_recordings
from trtgate.policy import JudgeSettings

CASES = ["resnet18-tensorrt_engine-fp16-b8-graph", "vit_b_16-tensorrt_engine-fp16-b8-graph"]
UNGRAPHED = "resnet18-eager-fp16-b8-stream"
TIME_S = {CASES[0]: 1e-4, CASES[1]: 3e-4, UNGRAPHED: 1e-3}
SHORT, MISSED = CASES[0], 0.026  # a case that could not be lengthened by as little as its arm is called


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """24 pairs: identical code and, of graphed cases, slower runners of the same processes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = []
    for pair in range(24):
        for case in TIME_S:
            scatter = 0.03 if case == UNGRAPHED else 0.003
            turns = rng.normal(0, 0.03)
            process = {side: turns + rng.normal(0, scatter) for side in ("base", "head")}
            arms = {"aa": 0.0}
            if case != UNGRAPHED:
                arms |= {"+3%": 0.03, "+2%": MISSED if case == SHORT else 0.02}
            for arm, effect in arms.items():
                for side in ("base", "head"):
                    shift = process[side] + (np.log1p(effect) if side == "head" else 0.0)
                    blocks = TIME_S[case] * np.exp(shift + rng.normal(0, 0.005, (4, 10)))
                    order = [[place] for place in range(4)]
                    line = {"pair": pair, "case": case, "quantity": "device", "arm": arm, "side": side}
                    lines.append(json.dumps(line | {"blocks": blocks.tolist(), "order": order}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rates_are_printed_and_written_side_by_side(recorded, tmp_path, capsys):
    written = tmp_path / "rates.json"
    options = ["--suites", "20", "--recordings", "5", "--json", str(written)]
    assert compare_rules.main([str(recorded), *options]) == 0
    results = json.loads(written.read_text())
    held = {(row["arm"], row["rows"]): row for row in results["What was recorded"]}
    assert held["aa", "graph"].items() >= {"pairs of processes": 24, "cases": 2, "comparisons": 48}.items()
    assert held["aa", "stream"]["cases"] == 1
    rows = results["The gate, on suites of 30 cases"]
    graphed, ungraphed = (row for row in rows if row["arm"] == "aa")
    assert (graphed["rows"], ungraphed["rows"]) == ("graph", "stream")
    assert graphed["comparisons"] == ungraphed["comparisons"] == 600
    assert graphed["false_slower"] == ungraphed["false_slower"] == 0
    assert graphed["unchanged_inconclusive"] < 0.01
    assert ungraphed["unchanged_inconclusive"] > 0.2  # seen by itself, not diluted by steady rows
    changed = {row["slower case"]: row for row in rows if row["arm"] == "+3%"}
    assert changed.keys() == {*CASES, "all", "all of 0.2 ms and more"}
    assert all(row["found"] >= 0.95 for row in changed.values())
    assert changed[CASES[0]]["effect as measured"] == pytest.approx(0.03, abs=0.005)
    assert changed[CASES[0]]["ms"] == pytest.approx(0.1, rel=0.05)
    assert changed["all of 0.2 ms and more"]["recorded pairs"] == 24
    alone = {row["case"]: row for row in results["Identical code, case by case"]}
    assert alone.keys() == TIME_S.keys()
    assert alone[UNGRAPHED]["resolvable"] > alone[CASES[0]]["resolvable"] > 0.01
    rules = {(row["arm"], row["rule"]): row for row in results["Other tools' rules"]}
    assert rules["aa", "Google Benchmark U test"]["stored: regression"] > 0.2
    assert rules["aa", "pyperf t test"]["same job: comparisons"] == 72
    assert rules["+3%", "asv"]["same job: regression"] == 0
    fresh = rules["+3%", peer_rates.PYPERF]
    assert fresh["same job: comparisons"] == 200  # 100 draws of 20 processes, of each of two cases
    # Fresh processes are its strength: on single ones the test cries wolf at half of all identical code.
    assert rules["aa", peer_rates.PYPERF]["stored: regression"] < rules["aa", "pyperf t test"]["stored: regression"] / 2
    assert rules["aa", peer_rates.GOOGLE]["same job: comparisons"] == 72
    for row in rows:
        assert "suite_false_failure_bound" not in row  # of suites, whose number does not make a rate sure
        passed, found = row["suites_passed, over recordings"], row["found, over recordings"]
        assert (passed is None) is (row["suites_passed"] is None) is (row["found"] is not None)
        assert (found is None) is (row["found"] is None)
        low, high = passed or found
        assert 0 <= low <= high <= 1
    printed = capsys.readouterr().out
    assert "### Other tools' rules" in printed
    assert "| nvbench robust |" in printed


def test_an_arm_that_did_not_do_what_it_is_called_is_said_and_left_out_of_the_sum(recorded):
    found = compare_rules.group(read_pairs(recorded))
    kind = (Quantity.DEVICE, Execution.GRAPH)
    rows = [place for _, place in compare_rules._scenarios(found, kind, JudgeSettings())]
    of_arm = {row["slower case"]: row for row in rows if row["arm"] == "+2%"}
    assert of_arm[SHORT]["left out"] == "off by a tenth"
    assert of_arm[SHORT]["injected as measured"] == pytest.approx(MISSED, rel=0.05)
    assert of_arm[CASES[1]]["left out"] is None
    assert of_arm["all"]["injected as measured"] == pytest.approx(0.02, rel=0.05)  # of the other alone


def test_what_was_recorded_decides_how_sure_a_rate_is_and_not_how_often_it_is_drawn_from():
    """A case near its margin, recorded twenty times: another recording would have told something else."""
    rng = np.random.default_rng(0)
    near = from_pairs(np.log1p(0.018) + rng.normal(0, 0.0068, 20))
    spread = over_recordings(Scenario("near", (near,) * 2, regressed=2), JudgeSettings(), 20, 50, seed=1)
    low, high = spread.found
    assert high - low > 0.3
    unchanged = from_pairs(rng.normal(0.004, 0.003, 20))  # identical code, in which the head happened to be slower
    swapped = over_recordings(Scenario("aa", (unchanged,) * 2), JudgeSettings(), 20, 20, seed=1)
    assert swapped.suites_passed[0] > 0.9
    assert swapped.found is None


def test_a_damaged_file_is_a_message_and_a_failure(tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text("{")
    assert compare_rules.main([str(tmp_path / "bad.jsonl")]) == 2
    assert "is not a recorded side of a pair" in capsys.readouterr().out


def test_without_identical_code_there_is_no_false_alarm_rate(recorded, tmp_path, capsys):
    slower = [line for line in recorded.read_text().splitlines() if '"aa"' not in line]
    (tmp_path / "no_aa.jsonl").write_text("\n".join(slower))
    assert compare_rules.main([str(tmp_path / "no_aa.jsonl")]) == 2
    assert "no A/A pair" in capsys.readouterr().out
