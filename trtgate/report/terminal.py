"""Tables for a terminal. Prints what was decided elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console, Group
from rich.text import Text

from trtgate.policy import Policy
from trtgate.record import Record
from trtgate.report import figures
from trtgate.report.closing_table import layout_for, tables, verdict_cell
from trtgate.report.from_records import machine_of, rows_of, skips_of
from trtgate.report.notes import group_notes
from trtgate.report.rows import Row, group_skips, legend, named, split_proofs
from trtgate.report.wide import at_least, hanging

# Deeper than the further lines of what the rows below it share.
_OF_A_GROUP = " " * 8


def summary(
    records: Sequence[Record],
    policy: Policy,
    *,
    width: int,
    title: str = "",
    verdicts: Mapping[str, tuple[str, str]] | None = None,
    colour: bool = False,
) -> list[str]:
    """The closing table of a run as lines of text.

    Args:
        records: of this run.
        policy: how rows are made of records.
        width: columns of the terminal.
        title: what ran where; the machine of the records if it is empty.
        verdicts: verdict and reason by case id.
        colour: whether the lines may hold ANSI colours.
    """
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=colour, color_system="standard" if colour else None)
    show(
        rows_of(records, policy, verdicts),
        skipped=skips_of(records),
        title=title or machine_of(records),
        confidence=policy.measure.confidence,
        console=console,
    )
    return text.getvalue().splitlines()


def show(
    rows: Sequence[Row],
    *,
    skipped: Iterable[tuple[str, str]] = (),
    title: str = "",
    confidence: float | None = None,
    notes: Iterable[str] = (),
    console: Console | None = None,
) -> None:
    """Print the one table of a run: times, speedups with their intervals, parity and verdict a case.

    Two lines a case: its device time with the speedups in device time, then its latency with those in latency. A
    narrow console loses the rate, and its speedups stand below one another.

    Args:
        rows: in the order in which they are to stand; neighbours of the same cell share a heading.
        skipped: case or test, and the reason; each reason is printed once.
        title: what ran where.
        confidence: of the intervals, for the heading.
        notes: sentences on the whole run, above its rows.
        console: where to print; the standard output without one.
    """
    console = console or Console()
    rows, proven = split_proofs(rows)
    table, unproven = [row for row in rows if not row.proof], [row for row in rows if row.proof]
    if title:
        console.print(Text(figures.printable(title), style="bold underline"))
    for note in notes:
        console.print(Text(hanging(note, console.width, indent=""), style="bold red"))
    if table:
        layout = layout_for(table, console.width)
        with at_least(console, layout.width):
            console.print(Group(*tables(table, layout, confidence), ""), crop=False)
        console.print(Group(*(Text(sentence, style="dim") for sentence in legend(table, rate=layout.rate)), ""))
    if proven:
        console.print(Group(*map(Text, proven), ""))
    if unproven:
        each = [Text.assemble(figures.printable(f"  {row.case}: "), verdict_cell(row)) for row in unproven]
        console.print(Group(Text("Optimiser proofs, without times:", style="bold"), *each, ""))
    for heading, lines in (("Why:", _notes(rows, console.width)), ("Skipped:", _skips(skipped, console.width))):
        if told := "\n".join(lines):
            console.print(Text(heading, style="bold"))
            console.print(Text(told))


def progress(done: int, total: int, doing: str, eta_s: float | None = None) -> str:
    """One line that tells what is being built or measured and how much is left.

    Args:
        done: finished benchmarks.
        total: all of this run.
        doing: what is happening now, such as ``building resnet18-tensorrt_engine-fp16-b8-graph``.
        eta_s: expected seconds until the end, None while nothing is known.
    """
    share = f"{100 * done // total:3d}%" if total else "  -"
    left = f", about {figures.duration(eta_s)} left" if eta_s is not None else ""
    return f"[{done:>{len(str(total))}}/{total} {share}{left}] {doing}"


def _notes(rows: Iterable[Row], width: int) -> Iterator[str]:
    for group in group_notes(rows):
        verdict = _after(group.verdict)
        if len(group.cases) == 1:
            yield hanging(f"{group.cases[0]}: {verdict}{group.note}", width)
        else:
            cases = "" if group.told else f" ({named(group.cases)})"
            yield hanging(f"{len(group.cases)} x {verdict}{group.note}{cases}", width)
        yield from (hanging(told.sentence, width, indent=_OF_A_GROUP) for told in group.told)


def _after(verdict: str) -> str:
    return f"{verdict}, " if verdict else ""


def _skips(skipped: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    for group in group_skips(skipped):
        yield hanging(f"{len(group.cases)} x {group.reason} ({named(group.cases)})", width)
