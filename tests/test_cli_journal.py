"""`trtgate report` of a journal, which is all that is left of a run whose machine went away."""

import json

import pytest

from trtgate.cli import ExitCode, main
from trtgate.record import Outcome
from trtgate.store.history import RunStatus, save_run
from trtgate.store.journal import Journal
from trtgate.store.lines import Entry, Mark, Start

CASES = [f"{name}-tensorrt_engine-fp16-b8-graph" for name in ("resnet18", "resnet50", "vit_b_16")]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAID = "is the journal of a run that did not end: 2 rows, the first of 2026-11-22 12:00:00 UTC, commit 0123456789ab."


def _run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def journal(here, h100, make_record, monkeypatch):
    """Of a run of two rows that was killed in its third."""
    monkeypatch.setenv("COLUMNS", "1000")  # however long its path is
    made = Journal(here / "cache" / "stack.jsonl")
    made.write(Start(identity=h100, commit=COMMIT))
    made.write(Entry("a", make_record(CASES[0], baselines={"eager": 1e-3})))
    made.write(Entry("b", make_record(CASES[1], outcome=Outcome.FAILED, reason="Parity failed.")))
    made.write(Mark(stage="run", cases=(CASES[2],), node="c", quantity="device"))
    return made


def test_a_journal_is_printed_in_every_form_and_says_above_its_rows_what_it_is(journal, here, capsys):
    assert _run("report", journal.path, "--markdown", "r.md", "--html", "r.html", "--json", "r.json") == ExitCode.PASS
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert f"This {SAID}" in lines
    assert lines.index(f"This {SAID}") < next(n for n, line in enumerate(lines) if line.startswith("tensorrt_engine"))
    assert f"{CASES[1]}: failed, Parity failed." in shown.out
    markdown, page = (here / "r.md").read_text(), (here / "r.html").read_text()
    for form in (markdown, page):
        assert f"This {SAID}" in form
        assert form.index("This is the journal") < form.index(CASES[0])
    kept = json.loads((here / "r.json").read_text())
    assert kept == [record.to_json() for record in journal.records()]


def test_a_journal_joins_the_other_goes_of_its_matrix(journal, here, make_record, capsys):
    rest = save_run(here / "results", [make_record(CASES[2])], status=RunStatus.FAILED, reason="Slow.")
    again = save_run(here / "results", [make_record(CASES[1])], status=RunStatus.PASSED)
    assert _run("report", journal.path, rest, again, "--markdown", "r.md") == 0
    out = capsys.readouterr().out
    assert f"{journal.path} {SAID}" in out.splitlines()
    assert f"{rest} did not pass when it was recorded: Slow." in out.splitlines()
    assert "failed" not in out.partition("device: what")[0].partition("tensorrt_engine")[2]  # the later row counts
    assert all(f"`{case}`" in (here / "r.md").read_text() for case in CASES)
    other = save_run(here / "results", [make_record(commit="fedcba")], status=RunStatus.PASSED)
    assert _run("report", journal.path, other) == ExitCode.USAGE
    assert "different commits" in capsys.readouterr().err


def test_a_journal_that_may_be_whole_does_not_claim_that_its_run_was_cut_off(journal, capsys):
    journal.write(Mark(stage="idle"))
    assert _run("report", journal.path) == 0
    assert "This is the journal of a run and does not say whether it ended: 2 rows" in capsys.readouterr().out


def test_a_torn_last_line_is_dropped_and_the_rest_printed(journal, capsys):
    with journal.path.open("ab") as file:
        file.write(b'{"node":"torn","record":{"sche')
    assert _run("report", journal.path) == 0
    shown = capsys.readouterr()
    assert f"This {SAID}" in shown.out
    assert shown.err == (
        f"trtgate: The last line of {journal.path} (30 bytes) was cut off when its writer died; it is dropped. "
        "Measure that benchmark again.\n"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no finished row. Go on with the run"),
        ("\n", "line 1, is damaged or cut off at line 1"),
        ("\xff\n", "line 1, is not text. Restore"),
        ('{"blocks": []}\n', "line 1, is not a journal entry. Name a journal"),
        ('{"start": {"schema_version": 2}}\n', "this release reads up to 1. Install"),
        ('{"node": "", "changes": "", "record": {"schema_version": 1}}\n', "is not a valid record"),
        ("[" * 100_000 + "\n", "nested too deeply"),
    ],
)
def test_a_damaged_journal_is_an_error_and_no_traceback(journal, capsys, text, told):
    journal.path.write_bytes(text.encode("latin-1"))
    assert _run("report", journal.path) == ExitCode.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("trtgate: ")
    assert str(journal.path) in shown.err
    assert told in shown.err


def test_the_limit_of_the_policy_holds_for_a_journal(journal, here, capsys):
    (here / "trtgate.toml").write_text("[store]\nmax_file_bytes = 100\n")
    assert _run("report", journal.path) == ExitCode.USAGE
    assert "larger than 100 bytes" in capsys.readouterr().err


def test_a_journal_that_is_not_there_is_missed(here, capsys):
    for arguments in (["report", "a.jsonl"], ["accept", "a.jsonl", "--reason", "x"], ["compare", "b.jsonl", "a.jsonl"]):
        assert _run(*arguments) == ExitCode.USAGE
        assert "Cannot read a.jsonl: No such file or directory." in capsys.readouterr().err


def test_a_journal_is_neither_accepted_nor_compared(journal, here, make_record, capsys):
    saved = save_run(here / "results", [make_record(CASES[0])], status=RunStatus.PASSED)
    before = journal.path.read_bytes()
    for arguments in (
        ["accept", journal.path, "--reason", "It is all there is."],
        ["compare", journal.path, saved],
        ["compare", saved, journal.path],
        ["compare", "results", journal.path],
    ):
        assert _run(*arguments) == ExitCode.USAGE
        shown = capsys.readouterr()
        assert shown.out == ""
        assert f"{journal.path} is the journal of a run, not a run that was saved." in shown.err
        assert "pytest --resume" in shown.err
    assert journal.path.read_bytes() == before
    assert sorted(path.name for path in (here / "results").iterdir() if path.suffix == ".json") == [saved.name]
