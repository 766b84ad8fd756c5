"""Known failures that share a reason: it is told once, and of each row what was seen, of which no figure is lost."""

import io
import json
import re

import pytest
from rich.console import Console

from trtgate.cli import main
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy import Policy
from trtgate.record import Outcome, with_seen, without_seen
from trtgate.report import html_page, markdown, terminal, verdicts
from trtgate.report.from_records import rows_of
from trtgate.report.notes import group_notes
from trtgate.report.rows import Row
from trtgate.report.sheet import Entry, Sheet
from trtgate.store.history import RunStatus, save_run

REASON = "TF32 stays on (H100, 2026-11-23)."
WRONG = "does not compute what the reference computes:"
ENGINES = [f"{name}-tensorrt_engine-fp32-b1-graph" for name in ("resnet18", "resnet50", "vit_b_16")]
COMPILED = ENGINES[0].replace("tensorrt_engine", "torch_tensorrt")
CELL = f"Run 'trtgate bisect {ENGINES[0]}': the raw engine of this cell shows its layers."


def _parts(case):
    return f"Run 'trtgate bisect {case}' to find the layer where they part."


def _figures(case, error):
    output = "tokens" if case == ENGINES[2] else "logits"
    return f"Output '{output}' of batch 0: relative L2 error {error} is beyond 1e-05; worst at element [0, 8]: 1.5."


def _off(case, error, advice=None):
    return with_seen(REASON, f"{case} {WRONG} {_figures(case, error)} {advice or _parts(case)}")


@pytest.fixture
def known(make_record):
    """Records of known failures, by reason."""

    def make(reasons):
        return [
            make_record(case, "latency", outcome=Outcome.KNOWN_FAILURE, reason=reason)
            for case, reason in reasons.items()
        ]

    return make


@pytest.fixture
def off(known):
    """Four rows that one entry of the policy explains."""
    seen = {case: _off(case, f"0.00{number}") for number, case in enumerate(ENGINES, start=1)}
    return known({COMPILED: _off(COMPILED, "0.009", CELL), **seen})


def _why(rows, width=10_000):
    text = io.StringIO()
    terminal.show(rows, console=Console(file=text, width=width))
    return text.getvalue().partition("Why:\n")[2].splitlines()


def test_the_reason_is_told_once_and_of_each_row_what_differs(off):
    head, *lines = _why(rows_of(off, Policy()))
    assert head == f"  4 x known fail, {REASON} Seen: {WRONG}"
    assert lines == [
        f"        {COMPILED}: {_figures(COMPILED, '0.009')} {CELL}",
        f"        {ENGINES[0]}: {_figures(ENGINES[0], '0.001')} {_parts(ENGINES[0])}",
        f"        {ENGINES[1]}: {_figures(ENGINES[1], '0.002')}",  # to bisect was said above
        f"        {ENGINES[2]}: {_figures(ENGINES[2], '0.003')}",
    ]


def test_also_the_output_is_told_once_where_it_is_the_same_of_all(known):
    reasons = {COMPILED: _off(COMPILED, "0.1"), ENGINES[0]: _off(ENGINES[0], "0.2")}
    head, one, _ = _why(rows_of(known(reasons), Policy()))
    assert head.endswith(f"Seen: {WRONG} Output 'logits' of batch 0:")
    assert one.startswith(f"        {COMPILED}: relative L2 error 0.1 is beyond 1e-05; worst at")


def test_in_a_narrow_console_a_row_begins_where_it_can_be_found(off):
    lines = _why(rows_of(off, Policy()), width=90)
    assert all(len(line) <= 90 for line in lines)
    found = [line.split(":")[0] for line in lines if re.match(r" {8}\S", line)]
    assert found == [f"        {case}" for case in (COMPILED, *ENGINES)]
    assert all(line.startswith((" " * 6, "  4 x known fail")) for line in lines)


def test_a_row_that_was_seen_to_fail_otherwise_keeps_all_its_words(known):
    other = "No layer of it. Is it built? Use another precision."
    reasons = {ENGINES[0]: _off(ENGINES[0], "0.1"), ENGINES[1]: with_seen(REASON, other)}
    head, one, two = _why(rows_of(known(reasons), Policy()))
    assert head.endswith(f"2 x known fail, {REASON} Seen:")
    assert one.startswith(f"        {ENGINES[0]}: {WRONG} Output 'logits'")
    assert one.endswith(_parts(ENGINES[0]))
    assert two == f"        {ENGINES[1]}: {other}"


def test_rows_of_which_the_same_was_seen_share_a_line(known):
    told = with_seen(REASON, "Myelin failed on {}. Use another precision.")
    reasons = {case: told.format(case) for case in ENGINES}
    (line,) = _why(rows_of(known(reasons), Policy()))
    assert line == f"  3 x known fail, {told.format('CASE')} ({', '.join(ENGINES)})"
    head, *lines = _why(rows_of([*known(reasons), *known({COMPILED: _off(COMPILED, "0.1")})], Policy()))
    assert head == f"  4 x known fail, {REASON} Seen:"
    assert f"        3 x Myelin failed on CASE. Use another precision. ({', '.join(ENGINES)})" in lines


def test_alone_or_without_what_was_seen_a_known_failure_is_told_as_it_is(known):
    (alone,) = _why(rows_of(known({ENGINES[0]: _off(ENGINES[0], "0.1")}), Policy()))
    assert alone.startswith(f"  {ENGINES[0]}: known fail, {REASON} Seen: {WRONG} Output")
    assert alone.endswith(_parts(ENGINES[0]))
    bare = known({ENGINES[0]: REASON, ENGINES[1]: REASON})
    assert _why(rows_of(bare, Policy())) == [f"  2 x known fail, {REASON} ({ENGINES[0]}, {ENGINES[1]})"]
    (mixed, _) = _why(rows_of([*bare, *known({ENGINES[2]: _off(ENGINES[2], "0.1")})], Policy()))
    assert mixed.startswith(f"  2 x known fail, {REASON} (")


def test_a_verdict_of_a_comparison_is_told_once_too(off):
    judged = {record.case: ("same", f"latency: Known to fail in both: {record.reason}") for record in off}
    head, *lines = _why(rows_of(off, Policy(), judged))
    assert head == f"  4 x same, latency: Known to fail in both: {REASON} Seen: {WRONG}"
    assert len(lines) == 4


def test_tables_number_what_their_rows_share(off):
    rows = rows_of(off, Policy())
    sentence = f"Reason 1, of 4 rows: {REASON} Seen: {WRONG}"
    for form in (markdown.run_table(rows), html_page.page(rows, title="machine")):
        text = form.replace("&#x27;", "'").replace("\\", "")
        assert text.count(REASON) == text.count(WRONG) == 1
        assert sentence in text
        assert text.count("see reason 1. Output '") == text.count("of batch 0: relative L2 error 0.00") == 4
        assert text.count("to find the layer where they part.") == 1
    (alone, _, *_) = rows
    assert "reason 1" not in markdown.run_table([alone])
    assert REASON in markdown.run_table([alone])


def test_a_comparison_tells_a_reason_once_a_verdict(off):
    entries = [
        Entry(record.case, quantity, Decision(verdict, "known_failure", f"{said}: {record.reason}"), passes=False)
        for record in off
        for quantity, verdict, said in (
            ("device", Verdict.NEW, "New, and known to fail"),
            ("latency", Verdict.NEW, "New, and known to fail"),
            ("parity", Verdict.SAME, "Known to fail in both"),
        )
    ]
    sheet = Sheet("trtgate compare", "a", "b", "inconclusive", tuple(entries))
    made = markdown.comparison(sheet).replace("\\", "")
    assert made.count(REASON) == 2
    assert f"Reason 1, of 8 rows: New, and known to fail: {REASON} Seen: CASE {WRONG}" in made
    assert f"Reason 1, of 4 rows: Known to fail in both: {REASON} Seen: CASE {WRONG}" in made
    text = io.StringIO()
    verdicts.show(sheet, Console(file=text, width=10_000))
    assert text.getvalue().count(REASON) == 1
    assert f"4 cases, device, latency: New, and known to fail: {REASON} Seen: CASE {WRONG}\n" in text.getvalue()
    for record in off:
        assert f"      {record.case}: Output '" in text.getvalue()
    assert [one["reason"] for one in sheet.to_json()["entries"]] == [one.decision.reason for one in sheet.by_gravity]


def test_reasons_that_are_too_long_for_a_comment_go_with_their_rows():
    said = with_seen("x" * 3000, "y")
    entries = [Entry(case, "parity", Decision(Verdict.NEW, "known_failure", said), passes=False) for case in ENGINES]
    made = markdown.comparison(Sheet("trtgate compare", "a", "b", "inconclusive", tuple(entries)), limit=6000)
    assert len(made) < 6000
    assert "left out for length" in made
    assert "reason 1" not in made


def test_the_records_of_a_report_keep_their_reasons(off, make_record, tmp_path, capsys):
    run = save_run(tmp_path, off, status=RunStatus.PASSED)
    assert main(["report", str(run), "--json", "-"]) == 0
    assert [one["reason"] for one in json.loads(capsys.readouterr().out)] == [record.reason for record in off]


def test_what_was_joined_comes_apart_and_nothing_else_does():
    assert without_seen(with_seen("a.", "b Seen: c")) == ("a.", "b Seen: c")
    assert without_seen("Unseen: nothing.") == ("Unseen: nothing.", "")
    assert with_seen("a.", "b") == "a. Seen: b"  # as releases before wrote it


def test_every_figure_of_every_row_is_told(off):
    rows = [Row(case=row.case, verdict=row.verdict, note=row.note, seen=row.seen) for row in rows_of(off, Policy())]
    (group,) = group_notes(rows)
    for row, told in zip(rows, group.told, strict=True):
        words = {word for word in row.seen.split() if any(mark.isdigit() for mark in word) and row.case not in word}
        assert words <= set(told.text.split())
