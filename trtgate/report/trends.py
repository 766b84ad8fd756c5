"""Change points of stored histories: terminal, markdown, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trtgate.judge.trend import ChangePoint
from trtgate.judge.verdict import spell
from trtgate.report import markdown


@dataclass(frozen=True, slots=True)
class Finding:
    """A lasting step in the history of one quantity of one case.

    Attributes:
        stack: history folder name of the machine and stack.
        case: id.
        quantity: what was measured.
        change: where, how large and how certain.
    """

    stack: str
    case: str
    quantity: str
    change: ChangePoint

    @property
    def commits(self) -> str:
        """The two commits between which the step lies, shortened."""
        return f"{_short(self.change.before)}..{_short(self.change.after)}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ratio is after / before, so that above 1 is slower."""
        change = self.change
        return {
            "stack": self.stack,
            "case": self.case,
            "quantity": self.quantity,
            "before": change.before,
            "after": change.after,
            "index": change.index,
            "ratio": change.ratio.estimate,
            "low": change.ratio.low,
            "high": change.ratio.high,
            "confidence": change.ratio.confidence,
            "p_value": change.p_value,
            "runs_after": change.runs_after,
        }


@dataclass(frozen=True, slots=True)
class Trend:
    """All findings of a search.

    Attributes:
        findings: the newest and largest first.
        histories: how many histories were searched.
        runs: points they held.
        short: how many of them were too short to hold a step.
    """

    findings: tuple[Finding, ...]
    histories: int
    runs: int
    short: int

    @property
    def headline(self) -> str:
        """One sentence."""
        count = len(self.findings)
        steps = f"{count} change {'point' if count == 1 else 'points'}" if count else "No change point"
        short = f"; {self.short} too short to hold one" if self.short else ""
        return f"{steps} in {self.histories:,} histories with {self.runs:,} points{short}."

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "schema_version": 1,
            "histories": self.histories,
            "points": self.runs,
            "too_short": self.short,
            "change_points": [finding.to_json() for finding in self.findings],
        }


def show(trend: Trend, console: Console | None = None) -> None:
    """Print one row a change point.

    Args:
        trend: what was found.
        console: where to print; the standard output without one.
    """
    console = console or Console()
    for stack in dict.fromkeys(finding.stack for finding in trend.findings):
        console.print(Text(stack, style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("case", overflow="fold")
        table.add_column("quantity")
        table.add_column("between commits", overflow="fold")
        table.add_column("change")
        table.add_column("runs since", justify="right")
        for finding in (found for found in trend.findings if found.stack == stack):
            slower = finding.change.ratio.estimate > 1
            table.add_row(
                Text(finding.case),
                finding.quantity,
                Text(finding.commits),
                Text(spell(finding.change.ratio), style="red" if slower else "green"),
                str(finding.change.runs_after),
            )
        console.print(table)
    console.print(Text(trend.headline))


def as_markdown(trend: Trend) -> str:
    """A table for an issue or a nightly summary."""
    lines = [f"### trtgate trend: {markdown.escape(trend.headline)}", ""]
    if trend.findings:
        head: Sequence[str] = ["stack", "case", "quantity", "between commits", "change", "runs since"]
        cells = [
            [
                markdown.code(finding.stack),
                markdown.code(finding.case),
                markdown.escape(finding.quantity),
                markdown.code(finding.commits),
                markdown.escape(spell(finding.change.ratio)),
                str(finding.change.runs_after),
            ]
            for finding in trend.findings
        ]
        lines += [*markdown.table(head, cells), ""]
    return "\n".join(lines)


def _short(commit: str | None) -> str:
    return (commit or "unversioned")[:12]
