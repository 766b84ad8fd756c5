"""docs/formats.md: its examples are read by the real readers, and it names every key that is written."""

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from trtgate.judge.interval import Interval
from trtgate.judge.pairs import read_pairs
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy import Policy
from trtgate.record import Identity, Outcome, Record
from trtgate.report.sheet import Entry, Sheet
from trtgate.store import host_format
from trtgate.store.journal import Journal
from trtgate.store.layout import LAYOUT
from trtgate.store.lines import Mark, Start
from trtgate.store.points import COLUMNS

GUIDE = (Path(__file__).resolve().parents[1] / "docs/formats.md").read_text()
JOURNAL_LINE, OTHER_LINES, SAMPLES_LINE = re.findall(r"```json\n(.*?)\n```", GUIDE, re.DOTALL)


def _named(text):
    return set(re.findall(r"`(\w+)`", text))


def _section(title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)[1]


def test_the_example_of_a_record_is_one(tmp_path):
    data = json.loads(JOURNAL_LINE)["record"]
    record = Record.from_json(data, "docs/formats.md")
    assert record.to_json() == data
    (tmp_path / "journal.jsonl").write_text(JOURNAL_LINE + "\n")
    (entry,) = Journal(tmp_path / "journal.jsonl").entries()
    assert entry.record == record
    assert entry.node.endswith(f"[{record.case}]")


def test_the_examples_of_lines_without_a_record_are_some(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(OTHER_LINES + "\n")
    start, mark = Journal(path).lines()
    assert [start.to_json(), mark.to_json()] == [json.loads(line) for line in OTHER_LINES.splitlines()]
    assert set(start.died.cases) < set(mark.cases)


def test_every_key_and_stage_of_a_line_is_explained():
    named = _named(_section("A journal"))
    stages = get_args(Mark.model_fields["stage"].annotation)
    assert {*Start.model_fields, *Mark.model_fields, *stages} - {"schema_version"} <= named


def test_the_known_failure_that_it_shows_is_an_entry():
    (text,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (entry,) = Policy.model_validate(tomllib.loads(text)).known_failure
    assert entry.explains("The process died 2 times while resnet50-tensorrt_engine-fp16-b8-graph was built.")


def test_samples_are_unpacked_as_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(compile(code, "docs/formats.md", "exec"), found := {})
    data = json.loads(JOURNAL_LINE)["record"]
    record = Record.from_json(data, "docs/formats.md")
    assert list(found["unpack"](data["series"])) == list(record.series.values)
    assert list(record.series.values) == pytest.approx([0.000341, 0.000339, 0.000342])


def test_the_example_of_samples_is_read(tmp_path):
    other = json.loads(SAMPLES_LINE) | {"side": "head"}
    (tmp_path / "samples.jsonl").write_text(f"{SAMPLES_LINE}\n{json.dumps(other)}\n")
    (pair,) = read_pairs(tmp_path / "samples.jsonl")
    assert [list(block) for block in pair.base] == json.loads(SAMPLES_LINE)["blocks"]


def test_every_key_of_a_record_is_explained():
    named = _named(_section("A record"))
    assert set(Record.model_fields) | set(Identity.model_fields) | set(Outcome) <= named


def test_every_key_of_a_history_is_explained(make_record):
    top = host_format.section("accepted", "because", [make_record(quantity="parity")], accepted_at="2026-11-22")
    assert set(top) <= _named(_section("A history"))


def test_every_column_of_a_store_is_explained():
    text = _section("Parquet files and PostgreSQL")
    assert set(COLUMNS) <= _named(text)
    assert f"layout={LAYOUT}/" in text
    assert f"`trtgate_points_{LAYOUT}`" in text


def test_every_key_of_a_comparison_is_explained():
    decision = Decision(Verdict.SAME, "within_margin", "No change.", Interval(1.0, 0.9, 1.1, 0.99))
    sheet = Sheet("trtgate gate", "a", "b", "pass", (Entry("c", "device", decision, True),), environment=decision)
    told = sheet.to_json()
    assert set(told) | set(told["entries"][0]) <= _named(_section("`--json`"))
    assert {field.name for field in fields(Decision)} - {"interval"} <= set(told["entries"][0])
