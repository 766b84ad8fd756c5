"""Every form that can be written is written, whatever happens to the others."""

import argparse
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from trtgate.errors import StorageError
from trtgate.gate.sides import own_root
from trtgate.judge.interval import Interval
from trtgate.judge.verdict import Decision, Verdict
from trtgate.report import junit, outputs
from trtgate.report.sheet import Entry, Sheet

FULL = Path("/dev/full")


def _sheet(*passes, verdict=Verdict.FASTER):
    decision = Decision(verdict, "beyond_margin", "Because.")
    entries = tuple(Entry(f"case{n}", "device", decision, one) for n, one in enumerate(passes))
    return Sheet("trtgate gate", "base", "head", "regression", entries)


def _arguments(**files):
    return argparse.Namespace(**{"markdown": None, "junit": None, "json": None, **files})


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_form_that_cannot_be_written_does_not_take_the_others_along(tmp_path, capsys):
    with pytest.raises(StorageError, match="/dev/full cannot be written: No space left"):
        outputs.write(_sheet(True), _arguments(markdown=str(FULL), json=str(tmp_path / "ok.json")))
    assert json.loads((tmp_path / "ok.json").read_text())["outcome"] == "regression"
    assert "case0" in capsys.readouterr().out


def test_a_form_that_cannot_be_made_does_not_take_the_others_along(tmp_path, monkeypatch, capsys):
    def stumble(_):
        raise ValueError("Out of range float values are not JSON compliant")

    monkeypatch.setattr(outputs.markdown, "comparison", stumble)
    files = {form: str(tmp_path / form) for form in ("markdown", "junit", "json")}
    with pytest.raises(ValueError, match="not JSON compliant"):
        outputs.write(_sheet(True), _arguments(**files))
    assert "case0" in (tmp_path / "junit").read_text()
    assert json.loads((tmp_path / "json").read_text())["outcome"] == "regression"
    assert "case0" in capsys.readouterr().out


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("target", ["None", "'-'"])
def test_a_full_standard_output_is_a_message_and_the_files_are_written(tmp_path, target):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_outputs import StorageError, _arguments, _sheet, outputs
try:
    outputs.write(_sheet(True), _arguments(markdown={target}, json={str(tmp_path / "ok.json")!r}))
except StorageError as error:
    sys.exit(f"told: {{error}}")
"""
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=own_root()
        )
    assert (
        done.stderr
        == "told: Standard output cannot be written: No space left on device. Send it where there is space.\n"
    )
    assert done.returncode == 1
    assert json.loads((tmp_path / "ok.json").read_text())["outcome"] == "regression"


def test_a_win_that_has_to_be_explained_is_a_failed_test_and_one_that_passes_is_none():
    suite = ET.fromstring(junit.comparison(_sheet(False, True)))[0]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert [[child.tag for child in test] for test in suite] == [["failure"], []]


def test_what_cannot_run_here_and_need_not_is_a_skipped_test():
    sheet = replace(_sheet(True), skipped={"resnet18-tensorrt_engine-fp16-b8-graph": "CUDA is <absent>."})
    suite = ET.fromstring(junit.comparison(sheet))[0]
    assert (suite.get("tests"), suite.get("skipped"), suite.get("errors")) == ("2", "1", "0")
    assert suite[1].get("name") == "resnet18-tensorrt_engine-fp16-b8-graph"
    assert suite[1][0].tag == "skipped"
    assert suite[1][0].get("message") == "CUDA is <absent>."
    assert sheet.to_json()["skipped"] == dict(sheet.skipped)


def test_an_interval_without_an_end_is_null_in_json():
    decision = Decision(Verdict.INCONCLUSIVE, "too_noisy", "Why.", Interval(2.0, 0.0, float("inf"), 0.95), float("inf"))
    told = Sheet("trtgate gate", "base", "head", "inconclusive", (Entry("a", "device", decision, False),)).to_json()
    (entry,) = told["entries"]
    assert (entry["ratio"], entry["low"], entry["high"], entry["resolvable"]) == (2.0, 0.0, None, None)


def test_the_foot_of_the_table_tells_the_wall_time_of_a_case(capsys):
    outputs.write(replace(_sheet(True, True), elapsed_s=121.0), _arguments())
    assert "It took 121 s, 60 s a case." in capsys.readouterr().out
    outputs.write(_sheet(True, True), _arguments())
    assert "It took" not in capsys.readouterr().out
