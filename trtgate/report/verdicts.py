"""The table of a comparison in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trtgate.judge.verdict import Verdict
from trtgate.report.figures import printable
from trtgate.report.notes import group_notes
from trtgate.report.rows import named
from trtgate.report.sheet import Entry, Sheet, row_of, split
from trtgate.report.wide import hanging, print_whole

STYLES = {
    Verdict.SAME: "green",
    Verdict.FASTER: "bold green",
    Verdict.SLOWER: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NEW: "cyan",
    Verdict.MISSING: "bold red",
    Verdict.INCOMPARABLE: "yellow",
    Verdict.INVALID: "bold red",
}


def show(sheet: Sheet, console: Console | None = None) -> None:
    """Print what was compared: one row a quantity, the gravest first, then the outcome.

    A row is one line whatever the console's width, so that a case can be searched for.

    Args:
        sheet: the comparison.
        console: where to print; the standard output without one.
    """
    console = console or Console()
    console.print(Text(printable(f"base {sheet.base}\nhead {sheet.head}"), style="bold"))
    for line in (sheet.machine, *sheet.notes):
        if line:
            console.print(Text(printable(line), style="dim"))
    loud, quiet = split(sheet.by_gravity)
    if loud or quiet:
        print_whole(console, _table([*loud, *quiet]))
        console.print()
    for reason in _reasons((entry for entry in loud if not sheet.told_by_environment(entry)), console.width):
        console.print(Text(reason))
    if sheet.environment is not None:
        console.print(Text(printable(f"Environment: {sheet.environment.verdict}. {sheet.environment.reason}")))
    if sheet.elapsed_s is not None and sheet.seconds_a_case is not None:
        console.print(Text(f"It took {sheet.elapsed_s:.0f} s, {sheet.seconds_a_case:.0f} s a case.", style="dim"))
    console.print(Text(f"{sheet.command}: {sheet.headline}", style="bold"))


def _table(entries: Iterable[Entry]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("case", "quantity", "verdict", "change"):
        table.add_column(heading, no_wrap=True)
    for entry in entries:
        verdict = Text(entry.decision.verdict, style=STYLES[entry.decision.verdict])
        table.add_row(Text(printable(entry.case)), Text(printable(entry.quantity)), verdict, Text(entry.change))
    return table


def _reasons(entries: Iterable[Entry], width: int) -> Iterator[str]:
    """Why, each reason once: a case that is wrong is wrong in all of its quantities, and often not the only one."""
    by_case: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_case.setdefault((entry.case, entry.decision.reason), []).append(entry)
    rows = [
        replace(row_of(found[0]), verdict=", ".join(entry.quantity for entry in found)) for found in by_case.values()
    ]
    for group in group_notes(rows):
        if len(group.cases) == 1:
            text = f"{group.cases[0]}, {group.verdict}: {group.note}"
        else:
            cases = "" if group.told else f" ({named(group.cases)})"
            text = f"{len(group.cases)} cases, {group.verdict}: {group.note}{cases}"
        yield hanging(text, width, indent="")
        yield from (hanging(told.sentence, width, indent=" " * 6) for told in group.told)
