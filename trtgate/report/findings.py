"""What `trtgate doctor` found, as a list for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Finding(Protocol):
    """One thing that is here or not."""

    @property
    def name(self) -> str:
        """What was looked for."""

    @property
    def here(self) -> bool:
        """Whether it can be used."""

    @property
    def detail(self) -> str:
        """Version, place or size; or why it cannot be used."""

    @property
    def fix(self) -> str:
        """What to do where it cannot be used; empty where nothing needs doing."""


def show(findings: Iterable[Finding], console: Console | None = None) -> None:
    """Print one line a finding, and what to do below those that need it.

    Args:
        findings: in the order in which they are to stand.
        console: where to print; the standard output without one.
    """
    console = console or Console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        detail = Text(finding.detail)
        if finding.fix:
            detail.append(f"\n{finding.fix}", style="dim")
        mark = Text("yes", style="green") if finding.here else Text("no", style="yellow")
        table.add_row(Text(finding.name), mark, detail)
    console.print(table)
