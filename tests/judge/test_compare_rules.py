"""The script that puts our rule beside the others' tells the truth about samples whose truth is known."""

import json

import numpy as np
import pytest

from benchmarks import compare_rules

CASES = ["resnet18-tensorrt_engine-fp16-b8-graph", "vit_b_16-tensorrt_engine-fp16-b8-graph"]
UNGRAPHED = "resnet18-eager-fp16-b8-stream"
TIME_S = {CASES[0]: 1e-4, CASES[1]: 3e-4, UNGRAPHED: 1e-3}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """24 pairs: identical code and, of graphed cases, 3% slower; every process is off by 1%, turns share that."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = []
    for arm, effect in (("aa", 0.0), ("+3%", 0.03)):
        for pair in range(24):
            for case in (*CASES, *([UNGRAPHED] if arm == "aa" else [])):
                scatter = 0.03 if case == UNGRAPHED else 0.003
                process = rng.normal(0, 0.03)
                for side in ("base", "head"):
                    shift = process + rng.normal(0, scatter) + (np.log1p(effect) if side == "head" else 0.0)
                    blocks = TIME_S[case] * np.exp(shift + rng.normal(0, 0.005, (4, 10)))
                    order = [[place] for place in range(4)]
                    line = {"pair": pair, "case": case, "quantity": "device", "arm": arm, "side": side}
                    lines.append(json.dumps(line | {"blocks": blocks.tolist(), "order": order}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rates_are_printed_and_written_side_by_side(recorded, tmp_path, capsys):
    written = tmp_path / "rates.json"
    assert compare_rules.main([str(recorded), "--suites", "20", "--json", str(written)]) == 0
    results = json.loads(written.read_text())
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
    printed = capsys.readouterr().out
    assert "### Other tools' rules" in printed
    assert "| nvbench robust |" in printed


def test_a_thousand_suites_are_drawn_by_default_since_fewer_cannot_show_one_in_a_hundred():
    from scipy import stats

    suites = compare_rules.arguments(["pairs.jsonl"]).suites
    assert stats.binomtest(0, suites).proportion_ci(0.90).high < 0.005


def test_a_damaged_file_is_a_message_and_a_failure(tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text("{")
    assert compare_rules.main([str(tmp_path / "bad.jsonl")]) == 2
    assert "is not a recorded side of a pair" in capsys.readouterr().out


def test_without_identical_code_there_is_no_false_alarm_rate(recorded, tmp_path, capsys):
    slower = [line for line in recorded.read_text().splitlines() if '"aa"' not in line]
    (tmp_path / "no_aa.jsonl").write_text("\n".join(slower))
    assert compare_rules.main([str(tmp_path / "no_aa.jsonl")]) == 2
    assert "no A/A pair" in capsys.readouterr().out
