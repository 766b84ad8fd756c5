"""Change points of stored histories: terminal, markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trtgate.judge.trend import ChangePoint, change_points
from trtgate.judge.verdict import spell
from trtgate.policy.judge import TrendSettings
from trtgate.report import markdown, outputs
from trtgate.report.wide import print_whole


@dataclass(frozen=True, slots=True)
class Finding:
    """A lasting step in the history of one quantity of one case.

    Attributes:
        stack: history folder name of the machine and stack.
        case: id.
        quantity: what was measured.
        host: what else it depends on, in words; empty where it does not, and the history is of all hosts.
        change: where, how large and how certain.
        candidates: commits of all runs that may be the first after the step, and of the run before the first of them.
    """

    stack: str
    case: str
    quantity: str
    host: str
    change: ChangePoint
    candidates: tuple[str, ...]

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
            "host": self.host,
            "before": change.before,
            "after": change.after,
            "candidates": list(self.candidates),
            "index": int(change.index),
            "ratio": change.ratio.estimate,
            "low": change.ratio.low,
            "high": change.ratio.high,
            "confidence": change.ratio.confidence,
            "p_value": change.p_value,
            "runs_after": int(change.runs_after),
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


class Series(Protocol):
    """A history to search, such as `trtgate.store.points.CaseSeries`."""

    @property
    def stack(self) -> str:
        """History folder name of the machine and stack."""

    @property
    def case(self) -> str:
        """Case id."""

    @property
    def quantity(self) -> str:
        """Name of the quantity."""

    @property
    def host(self) -> str:
        """What else the figures depend on, in words; empty where nothing."""

    @property
    def medians(self) -> npt.NDArray[np.float64]:
        """One figure a run, oldest first."""

    @property
    def commits(self) -> tuple[str, ...]:
        """One a run."""


def search(histories: Iterable[Series], settings: TrendSettings) -> Trend:
    """Ask `trtgate.judge.trend` about every history.

    Args:
        histories: of any number of cases.
        settings: the policy's rates and limits.

    Raises:
        BackendAbsentError: ruptures is not installed.
    """
    findings: list[Finding] = []
    searched = points = short = 0
    for one in histories:
        searched, points = searched + 1, points + len(one.medians)
        short += len(one.medians) < 2 * settings.min_runs
        steps = change_points(one.medians, settings, one.commits)
        for step in steps:
            first, last = step.whereabouts
            candidates = tuple(dict.fromkeys(one.commits[first - 1 : last + 1]))
            findings.append(Finding(one.stack, one.case, one.quantity, one.host, step, candidates))
    findings.sort(key=lambda finding: (finding.change.runs_after, -abs(finding.change.ratio.estimate - 1)))
    return Trend(tuple(findings), searched, points, short)


def write(trend: Trend, *, json_target: str | None, markdown_target: str | None) -> None:
    """Print change points and write the files that were asked for; ``-`` is standard output.

    Raises:
        StorageError: a file cannot be written.
    """
    if "-" not in (json_target, markdown_target):
        show(trend)
    if json_target is not None:
        outputs.emit(json.dumps(trend.to_json(), indent=2, allow_nan=False) + "\n", json_target)
    if markdown_target is not None:
        outputs.emit(as_markdown(trend), markdown_target)


def show(trend: Trend, console: Console | None = None) -> None:
    """Print one row a change point.

    Args:
        trend: what was found.
        console: where to print; the standard output without one.
    """
    console = console or Console()
    for stack, host in dict.fromkeys((finding.stack, finding.host) for finding in trend.findings):
        console.print(Text(stack, style="bold"))
        if host:
            console.print(Text(host))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("case", "quantity", "between commits", "change"):
            table.add_column(heading, no_wrap=True)
        table.add_column("runs since", justify="right", no_wrap=True)
        for finding in (found for found in trend.findings if (found.stack, found.host) == (stack, host)):
            slower = finding.change.ratio.estimate > 1
            table.add_row(
                Text(finding.case),
                Text(finding.quantity),
                Text(finding.commits),
                Text(spell(finding.change.ratio), style="red" if slower else "green"),
                str(finding.change.runs_after),
            )
        print_whole(console, table)
    console.print(Text(trend.headline))


def as_markdown(trend: Trend) -> str:
    """A table for an issue or a nightly summary."""
    lines = [f"### trtgate trend: {markdown.escape(trend.headline)}", ""]
    if trend.findings:
        head: Sequence[str] = ["stack", "host", "case", "quantity", "between commits", "change", "runs since"]
        cells = [
            [
                markdown.code(finding.stack),
                markdown.escape(finding.host),
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
