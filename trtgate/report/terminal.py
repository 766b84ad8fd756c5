"""Tables for a terminal. Prints what was decided elsewhere."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from trtgate.case import Case
from trtgate.errors import UsageError
from trtgate.policy import Policy
from trtgate.record import Record
from trtgate.report import figures
from trtgate.report.from_records import machine_of, rows_of, skips_of
from trtgate.report.rows import BASELINE_NAMES, Bounds, Row, baselines_of, group_skips, legend

_ROOM_FOR_INTERVALS = 110
_ROOM_FOR_RATE = 118
_STYLES = {
    "SAME": "green",
    "FASTER": "green",
    "PASSED": "green",
    "KNOWN FAIL": "yellow",
    "NEW": "cyan",
    "INCONCLUSIVE": "yellow",
    "INCOMPARABLE": "yellow",
    "MISSING": "red",
    "INVALID": "red",
    "SLOWER": "bold red",
    "FAILED": "bold red",
}


def summary(
    records: Sequence[Record],
    policy: Policy,
    skipped: Iterable[tuple[str, str]] = (),
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
        skipped: case or test, and the reason; each reason is printed once.
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
        skipped=[*skips_of(records), *skipped],
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
    narrow console loses the rate first, then the intervals' upper ends.

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
        console.print(Group(*_tables(rows, confidence, console.width), ""))
        console.print(
            Group(
                *(
                    Text(sentence, style="dim")
                    for sentence in legend(rows, intervals=console.width >= _ROOM_FOR_INTERVALS)
                ),
                "",
            )
        )
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


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of fixed width, so that the tables below one another align."""

    heading: str
    width: int
    cell: Callable[[Row], RenderableType]
    right: bool = True


def _tables(rows: Sequence[Row], confidence: float | None, width: int) -> Iterator[RenderableType]:
    """The heading, then one table a cell of the matrix under its own title, which a table row could not span."""
    columns = _columns(rows, width)
    wide = width >= _ROOM_FOR_INTERVALS
    if baselines_of(rows):
        level = "" if confidence is None else f"{confidence:.0%} "
        bounds = f"with its {level}interval" if wide else f"at least (lower end of its {level}interval)"
        yield Text(f"Speedup {bounds}: in device time on a case's first line, in latency on its second.", style="dim")
    yield _table(columns, (), with_header=True)
    for title, group in itertools.groupby(rows, key=lambda row: _names(row.case)[0]):
        if title:
            yield Text(title, style="bold")
        yield _table(columns, group, with_header=False)


def _table(columns: Sequence[_Column], rows: Iterable[Row], *, with_header: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if with_header else None, padding=(0, 1, 0, 0), pad_edge=False)
    table.show_header, table.show_edge = with_header, False
    for column in columns:
        table.add_column(
            column.heading,
            width=column.width,
            justify="right" if column.right else "left",
            overflow="fold",
            vertical="top" if not with_header else "bottom",
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _columns(rows: Sequence[Row], width: int) -> list[_Column]:
    wide = width >= _ROOM_FOR_INTERVALS
    show = figures.interval if wide else figures.at_least
    columns = [
        _Column("case", 22 if wide else 21, lambda row: Text(_names(row.case)[1]), right=False),
        _Column("time", 7, lambda row: "\n".join(line.time for line in _lines(row)), right=False),
        _Column(
            "ms", 6 if wide else 5, lambda row: "\n".join(figures.milliseconds(line.seconds) for line in _lines(row))
        ),
    ]
    for name in baselines_of(rows):
        spoken = BASELINE_NAMES.get(name, name)
        cell = partial(_speedup_cell, name=name, show=show)
        columns.append(_Column(f"over {spoken}", 16 if wide else max(map(len, spoken.split())), cell))
    if width >= _ROOM_FOR_RATE and any(row.throughput_per_s for row in rows):
        columns.append(_Column("inf/s", 7, lambda row: figures.rate(row.throughput_per_s)))
    if any(row.parity for row in rows):
        columns.append(_Column("parity", 7, _parity_cell))
    if longest := max(len(row.verdict) for row in rows):
        columns.append(_Column("verdict", max(longest, 7), _verdict_cell, right=False))
    return columns


@dataclass(frozen=True, slots=True)
class _Line:
    time: str
    seconds: Bounds
    speedups: Mapping[str, Bounds]


def _lines(row: Row) -> list[_Line]:
    times = (("device", row.device_s, row.device_speedups), ("latency", row.latency_s, row.latency_speedups))
    return [_Line(time, seconds, speedups) for time, seconds, speedups in times if seconds is not None]


def _speedup_cell(row: Row, name: str, show: Callable[[Bounds | None], str]) -> Text:
    return Text("\n").join(
        Text(show(bounds), style="" if bounds is None or bounds.high >= 1 else "red")
        for bounds in (line.speedups.get(name) for line in _lines(row))
    )


def _parity_cell(row: Row) -> Text:
    bad = row.parity is not None and not row.parity.within
    return Text(figures.error_over_bound(row.parity).replace(" of ", "\nof "), style="bold red" if bad else "")


def _verdict_cell(row: Row) -> Text:
    return Text(row.verdict, style=_STYLES.get(row.verdict.upper(), ""))


def _names(text: str) -> tuple[str, str]:
    """Heading and line name of a case: what it shares with its neighbours, and how it was built."""
    try:
        case = Case.parse(text)
    except UsageError:
        # A row of something that is no case, such as a micro-model of the optimisation tests, stands by itself.
        return "", text
    cold = f" {case.l2}" if case.l2 != "warm" else ""
    return f"{case.workload} {case.precision} {case.shape}{cold}", f"{case.backend} {case.execution}"


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
