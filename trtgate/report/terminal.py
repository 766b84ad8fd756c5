"""Tables for a terminal. Prints what was decided elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.text import Text

from trtgate.policy import Policy
from trtgate.record import Record
from trtgate.report import figures
from trtgate.report.closing_table import layout_for, tables
from trtgate.report.from_records import machine_of, rows_of, skips_of
from trtgate.report.rows import Row, group_skips, legend


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
        policy: whose confidence the intervals have.
        width: columns of the terminal.
        title: what ran where; the machine of the records if it is empty.
        verdicts: verdict and reason by case id.
        colour: whether the lines may hold ANSI colours.
    """
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=colour, color_system="standard" if colour else None)
    confidence = policy.measure.confidence
    show(
        rows_of(records, confidence, verdicts),
        skipped=skips_of(records),
        title=title or machine_of(records),
        confidence=confidence,
        console=console,
    )
    return text.getvalue().splitlines()


def show(
    rows: Sequence[Row],
    *,
    skipped: Iterable[tuple[str, str]] = (),
    title: str = "",
    confidence: float | None = None,
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
        console: where to print; the standard output without one.
    """
    console = console or Console()
    if title:
        console.print(Text(figures.printable(title), style="bold underline"))
    if rows:
        layout = layout_for(rows, console.width)
        with _at_least(console, layout.width):
            console.print(Group(*tables(rows, layout, confidence), ""), crop=False)
        console.print(Group(*(Text(sentence, style="dim") for sentence in legend(rows, rate=layout.rate)), ""))
    parts = [*_notes(rows), *_skips(skipped)]
    if parts:
        console.print(Group(*parts))


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


@contextmanager
def _at_least(console: Console, width: int) -> Iterator[None]:
    """Long lines where a console has too few columns: folded, figures would stand beside the wrong names."""
    before = console.width
    console.width = max(before, width)
    try:
        yield
    finally:
        console.width = before


def _notes(rows: Iterable[Row]) -> list[RenderableType]:
    noted = [row for row in rows if row.note]
    if not noted:
        return []
    lines: list[RenderableType] = [Text("Why:", style="bold")]
    lines += [
        Text(figures.printable(f"  {row.case}: {row.verdict + ', ' if row.verdict else ''}{row.note}")) for row in noted
    ]
    return lines


def _skips(skipped: Iterable[tuple[str, str]]) -> list[RenderableType]:
    groups = group_skips(skipped)
    if not groups:
        return []
    lines: list[RenderableType] = [Text("Skipped:", style="bold")]
    for group in groups:
        named = ", ".join(group.cases[:3]) + (f" and {len(group.cases) - 3} more" if len(group.cases) > 3 else "")
        lines.append(Text(figures.printable(f"  {len(group.cases)} x {group.reason} ({named})")))
    return lines
