"""Markdown: the comment on a pull request, a CI's step summary, and the tables of a README."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from trtgate.case import Case
from trtgate.errors import UsageError
from trtgate.report import figures
from trtgate.report.notes import SharedReasons
from trtgate.report.rows import BASELINE_NAMES, Row, baselines_of, group_skips, legend, split_proofs
from trtgate.report.sheet import Entry, Sheet, row_of, split

# GitHub refuses comments of more than 65,536 characters; the rest is room for what a bot puts round ours.
COMMENT_LIMIT = 60_000


def comparison(sheet: Sheet, limit: int = COMMENT_LIMIT) -> str:
    """A comment for a pull request.

    Args:
        sheet: what was compared.
        limit: leave rows out, aloud, where the text would become longer; the gravest rows come first.
    """
    lines = [f"### {escape(sheet.command)}: {escape(sheet.headline)}", ""]
    lines.append(f"Base {code(sheet.base)}, head {code(sheet.head)}." + _sentence(sheet.machine))
    lines += [escape(note) for note in sheet.notes]
    if sheet.environment is not None:
        lines.append(f"Environment: **{sheet.environment.verdict}**. {escape(sheet.environment.reason)}")
    lines.append("")
    loud, quiet = split(sheet.by_gravity)
    # Room for the two sentences that count what was left out, and for the frame of the second table.
    budget = limit - _length(lines) - 600
    if loud:
        shown = _entries(loud, sheet, budget)
        budget -= _length(shown)
        lines += shown
    if quiet:
        count = f"{len(quiet)} without a change beyond their margin"
        lines += [f"<details><summary>{count}</summary>", "", *_entries(quiet, sheet, budget), "</details>", ""]
    return "\n".join(lines)


def run_table(
    rows: Sequence[Row],
    *,
    skipped: Iterable[tuple[str, str]] = (),
    machine: str = "",
    confidence: float | None = None,
    notes: Iterable[str] = (),
) -> str:
    """A run as tables for a README, one a workload and precision, with all time quantities and their meaning.

    Args:
        rows: one a case.
        skipped: case and reason.
        machine: GPU and stack in one line.
        confidence: of the intervals.
        notes: sentences on the whole run, above its rows.
    """
    lines = [f"Measured on {escape(machine)}.", ""] if machine else []
    lines += [line for note in notes for line in (f"**{escape(note)}**", "")]
    rows, proofs = split_proofs(rows)
    names, reasons = baselines_of(rows), SharedReasons(rows)
    head = ["case", "device ms", "latency ms", "inf/s"]
    head += [f"device, over {BASELINE_NAMES.get(name, name)}" for name in names]
    head += [f"latency, over {BASELINE_NAMES.get(name, name)}" for name in names]
    head += ["parity", "verdict"]
    for title, group in _by_workload(rows):
        lines += [f"**{escape(title)}**", "", *table(head, (_run_cells(row, names, reasons) for row in group)), ""]
    lines += _sentences(reasons)
    lines += [line for sentence in proofs for line in (escape(sentence), "")]
    if names:
        level = f"{confidence:.0%} " if confidence is not None else ""
        lines += [f"Speedups stand with their {level}interval in brackets; parity is the error and its bound.", ""]
    lines += [f"- {escape(sentence)}" for sentence in legend(rows)]
    groups = group_skips(skipped)
    if groups:
        lines += ["", "Not run:", ""]
        lines += [f"- {len(group.cases)} x {escape(group.reason)}" for group in groups]
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """Text that can neither break a table nor become markup."""
    made = html.escape(figures.printable(text), quote=False).replace("\\", "\\\\").replace("`", "&#96;")
    for mark in "|*_[]":
        made = made.replace(mark, f"\\{mark}")
    return " ".join(made.split())


def code(text: str) -> str:
    """Text as a code span; what would end the span or the table's cell is replaced."""
    return "`" + " ".join(figures.printable(text).replace("`", "'").replace("|", "/").split()) + "`"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; the cells must be escaped already."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cells) + " |" for cells in body]


def _run_cells(row: Row, names: Sequence[str], reasons: SharedReasons) -> list[str]:
    why = reasons.cell(row)
    return [
        code(row.case),
        *figures.times(row),
        *(escape(figures.interval(row.device_speedups.get(name))) for name in names),
        *(escape(figures.interval(row.latency_speedups.get(name))) for name in names),
        figures.error_over_bound(row.parity),
        escape(f"{row.verdict}: {why}" if why else row.verdict),
    ]


def _sentences(reasons: SharedReasons) -> list[str]:
    return [line for sentence in reasons.sentences for line in (escape(sentence), "")]


def _by_workload(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        try:
            title = Case.parse(row.case).workload
        except UsageError:
            title = "other"
        groups.setdefault(title, []).append(row)
    return list(groups.items())


def _entries(entries: Sequence[Entry], sheet: Sheet, budget: int) -> list[str]:
    """A table of the entries for which there is room, and the reasons that they share."""
    reasons = SharedReasons(map(row_of, entries))
    shared = _sentences(reasons)
    if 2 * _length(shared) > budget:  # they would crowd out the rows; in its own cell a reason goes with its row
        reasons, shared = SharedReasons(()), []
    rows = table(
        ["case", "quantity", "verdict", "change", "why"],
        (
            [
                code(entry.case),
                escape(entry.quantity),
                f"**{entry.decision.verdict}**",
                escape(entry.change),
                "see Environment" if sheet.told_by_environment(entry) else escape(reasons.cell(row_of(entry))),
            ]
            for entry in entries
        ),
    )
    shown, left_out = _within(rows, budget - _length(shared))
    return [*shown, *_left_out(left_out), "", *shared]


def _within(lines: list[str], budget: int) -> tuple[list[str], int]:
    """The lines that fit, and how many rows were left out; heading and one row always stay."""
    kept, used = lines[:3], _length(lines[:3])
    for line in lines[3:]:
        used += len(line) + 1
        if used > budget:
            break
        kept.append(line)
    return kept, len(lines) - len(kept)


def _length(lines: Iterable[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _left_out(count: int) -> list[str]:
    return [f"\nand {count} more, left out for length; `--json` has them all."] if count else []


def _sentence(machine: str) -> str:
    return f" {escape(machine)}." if machine else ""
