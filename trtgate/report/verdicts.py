"""The table of a comparison in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trtgate.judge.verdict import Verdict
from trtgate.report.figures import printable
from trtgate.report.sheet import Sheet, split

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
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("case", overflow="fold", ratio=5)
        table.add_column("quantity")
        table.add_column("verdict")
        table.add_column("change", ratio=3)
        for entry in (*loud, *quiet):
            verdict = Text(entry.decision.verdict, style=STYLES[entry.decision.verdict])
            table.add_row(Text(entry.case), entry.quantity, verdict, Text(entry.change))
        console.print(table)
    for entry in loud:
        console.print(Text(printable(f"{entry.case}, {entry.quantity}: {entry.decision.reason}")))
    if sheet.environment is not None:
        console.print(Text(printable(f"Environment: {sheet.environment.verdict}. {sheet.environment.reason}")))
    if sheet.elapsed_s is not None and sheet.seconds_a_case is not None:
        console.print(Text(f"It took {sheet.elapsed_s:.0f} s, {sheet.seconds_a_case:.0f} s a case.", style="dim"))
    console.print(Text(f"{sheet.command}: {sheet.headline}", style="bold"))
