"""Lays out the one table of a run for the columns that a terminal has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trtgate.case import Case
from trtgate.errors import UsageError
from trtgate.report import figures
from trtgate.report.rows import BASELINE_NAMES, Bounds, Row, baselines_of

_CASE = 22
_LEAST_CASE = 15  # "tensorrt_engine", its execution on the line below
_INTERVAL = 16
_SHORT_NAMES = {"eager_graph": "graphed"}
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


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of fixed width, so that the tables below one another align."""

    heading: str
    width: int
    cell: Callable[[Row], RenderableType]
    right: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that fit, and how the speedups stand in them.

    Attributes:
        columns: from left to right.
        stacked: whether a case's baselines stand below one another instead of in columns of their own.
        rate: whether there is a column for inferences a second.
    """

    columns: tuple[_Column, ...]
    stacked: bool
    rate: bool

    @property
    def width(self) -> int:
        """Columns of the terminal that the table takes."""
        return sum(column.width for column in self.columns) + len(self.columns) - 1


def layout_for(rows: Sequence[Row], width: int) -> Layout:
    """The widest layout that fits: without room the rate goes first, then baselines stack, then the case's name folds.

    Estimates and intervals of the speedups are in every one of them.

    Args:
        rows: of the table; at least one.
        width: columns of the terminal.
    """
    rated = any(row.throughput_per_s for row in rows)
    options = [(stacked, rate) for stacked in (False, True) for rate in ((True, False) if rated else (False,))]
    layouts = [_layout(rows, stacked=stacked, rate=rate, case=_CASE) for stacked, rate in options]
    fitting = next((layout for layout in layouts if layout.width <= width), None)
    if fitting is not None:
        return fitting
    too_many = layouts[-1].width - width
    return _layout(rows, stacked=True, rate=False, case=max(_CASE - too_many, _LEAST_CASE))


def tables(rows: Sequence[Row], layout: Layout, confidence: float | None) -> Iterator[RenderableType]:
    """The heading, then one table a cell of the matrix under its own title, which a table row could not span."""
    if baselines_of(rows):
        level = "" if confidence is None else f"{confidence:.0%} "
        where = (
            "beside device, latency beside latency"
            if layout.stacked
            else "on a case's first line, in latency on its second"
        )
        yield Text(f"Speedup with its {level}interval: in device time {where}.", style="dim")
    yield _table(layout.columns, (), with_header=True)
    for title, group in itertools.groupby(rows, key=lambda row: _names(row.case)[0]):
        if title:
            yield Text(title, style="bold")
        yield _table(layout.columns, group, with_header=False)


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


def _layout(rows: Sequence[Row], *, stacked: bool, rate: bool, case: int) -> Layout:
    baselines = baselines_of(rows)
    stacked = stacked and bool(baselines)
    lines = _stacked_lines if stacked else _lines
    columns = [
        _Column("case", case, lambda row: Text(_names(row.case)[1]), right=False),
        _Column("time", 7, lambda row: "\n".join(line.time for line in lines(row)), right=False),
        _Column("ms", 5 if stacked else 6, lambda row: "\n".join(line.milliseconds for line in lines(row))),
    ]
    if stacked:
        short = {name: _SHORT_NAMES.get(name, BASELINE_NAMES.get(name, name)) for name in baselines}
        columns.append(
            _Column(
                "over",
                max(map(len, short.values())),
                lambda row: "\n".join(short.get(name, "") for line in lines(row) for name in line.speedups or ("",)),
                right=False,
            )
        )
        columns.append(
            _Column(
                "speedup",
                _INTERVAL,
                lambda row: _speedups(one for line in lines(row) for one in line.speedups.values() or (None,)),
                right=False,
            )
        )
    else:
        columns += [
            _Column(f"over {BASELINE_NAMES.get(name, name)}", _INTERVAL, partial(_speedups_over, name=name))
            for name in baselines
        ]
    if rate:
        columns.append(_Column("inf/s", 7, lambda row: figures.rate(row.throughput_per_s)))
    if any(row.parity for row in rows):
        columns.append(_Column("parity", 7, _parity_cell))
    if longest := max(len(row.verdict) for row in rows):
        columns.append(_Column("verdict", max(longest, 7), _verdict_cell, right=False))
    return Layout(tuple(columns), stacked, rate)


@dataclass(frozen=True, slots=True)
class _Line:
    time: str
    milliseconds: str
    speedups: Mapping[str, Bounds]


def _lines(row: Row) -> list[_Line]:
    """One line a time."""
    times = (("device", row.device_s, row.device_speedups), ("latency", row.latency_s, row.latency_speedups))
    return [
        _Line(time, figures.milliseconds(seconds), speedups) for time, seconds, speedups in times if seconds is not None
    ]


def _stacked_lines(row: Row) -> Iterator[_Line]:
    """One line a baseline, the time standing in the first of its own."""
    for line in _lines(row):
        each = [{name: line.speedups[name]} for name in baselines_of([row]) if name in line.speedups] or [{}]
        yield _Line(line.time, line.milliseconds, each[0])
        yield from (_Line("", "", one) for one in each[1:])


def _speedups_over(row: Row, name: str) -> Text:
    return _speedups((line.speedups.get(name) for line in _lines(row)), missing=figures.MISSING)


def _speedups(found: Iterable[Bounds | None], missing: str = "") -> Text:
    return Text("\n").join(
        Text(missing) if bounds is None else Text(figures.interval(bounds), style="" if bounds.high >= 1 else "red")
        for bounds in found
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
