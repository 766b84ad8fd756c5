"""Lays out the one table of a run for the columns that a terminal has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trtgate.case import Case
from trtgate.errors import UsageError
from trtgate.report import figures
from trtgate.report.rows import BASELINE_NAMES, Bounds, Row, baselines_of

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
    """A column, as wide in all the tables below one another as its widest cell, so that they align.

    Attributes:
        heading: may take several lines, and breaks between words.
        width: of the widest cell, and of the heading's longest word.
        cell: what stands in it; its lines are not longer than the width.
        right: whether cells and heading end at the column's right edge.
    """

    heading: str
    width: int
    cell: Callable[[Row], Text]
    right: bool = False


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
    layouts = [_layout(rows, stacked=stacked, rate=rate) for stacked, rate in options]
    return next((layout for layout in layouts if layout.width <= width), _with_folded_case(layouts[-1], rows, width))


def _with_folded_case(layout: Layout, rows: Sequence[Row], width: int) -> Layout:
    """The layout with its first column narrowed, at most to the longest word of a case's name."""
    case, *others = layout.columns
    texts = [case.heading, *(case.cell(row).plain for row in rows)]
    longest_word = max(len(word) for text in texts for word in text.split())
    narrowed = replace(case, width=max(case.width - (layout.width - width), longest_word))
    return replace(layout, columns=(narrowed, *others))


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
    yield Text("─" * layout.width)
    for title, group in itertools.groupby(rows, key=lambda row: _names(row.case)[0]):
        if title:
            yield Text(title, style="bold")
        yield _table(layout.columns, group, with_header=False)


def _table(columns: Sequence[_Column], rows: Iterable[Row], *, with_header: bool) -> Table:
    """One of the tables below one another: all have the same padding and widths, the heading's too."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=with_header)
    for column in columns:
        table.add_column(
            Text(column.heading),  # it names a baseline as the record does
            width=column.width,
            justify="right" if column.right else "left",
            vertical="bottom" if with_header else "top",
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _layout(rows: Sequence[Row], *, stacked: bool, rate: bool) -> Layout:
    baselines = baselines_of(rows)
    stacked = stacked and bool(baselines)
    lines = _stacked_lines if stacked else _lines

    def column(heading: str, cell: Callable[[Row], Text], *, right: bool = False) -> _Column:
        cells = (line for row in rows for line in cell(row).plain.split("\n"))
        return _Column(heading, max(map(len, (*heading.split(), *cells))), cell, right)

    columns = [
        column("case", lambda row: Text(_names(row.case)[1])),
        column("time", lambda row: Text("\n".join(line.time for line in lines(row)))),
        column(*_figures("ms", rows, lambda row: [line.milliseconds for line in lines(row)])),
    ]
    if stacked:
        short = {name: _SHORT_NAMES.get(name, BASELINE_NAMES.get(name, name)) for name in baselines}
        columns += [
            column("over", lambda row: Text("\n".join(short.get(line.over, "") for line in _stacked_lines(row)))),
            column("speedup", lambda row: _speedups(line.speedups.get(line.over) for line in _stacked_lines(row))),
        ]
    else:
        columns += [
            column(f"over {BASELINE_NAMES.get(name, name)}", partial(_speedups_over, name=name), right=True)
            for name in baselines
        ]
    if rate:
        columns.append(column(*_figures("inf/s", rows, lambda row: [figures.times(row)[2]])))
    if any(row.parity for row in rows):
        columns.append(column("parity", _parity_cell, right=True))
    if any(row.verdict for row in rows):
        columns.append(column("verdict", verdict_cell))
    return Layout(tuple(columns), stacked, rate)


def _figures(
    heading: str, rows: Iterable[Row], figures_of: Callable[[Row], Sequence[str]]
) -> tuple[str, Callable[[Row], Text]]:
    """Heading and cells of a column of figures whose last digits align; a mark of doubt stands behind them."""
    widest = max([len(heading), *(len(one.rstrip(figures.DOUBT)) for row in rows for one in figures_of(row))])

    def cell(row: Row) -> Text:
        aligned = (" " * (widest - len(one.rstrip(figures.DOUBT))) + one if one else "" for one in figures_of(row))
        return Text("\n".join(aligned))

    return heading.rjust(widest), cell


@dataclass(frozen=True, slots=True)
class _Line:
    time: str
    milliseconds: str
    speedups: Mapping[str, Bounds]
    over: str = ""


def _lines(row: Row) -> list[_Line]:
    """One line a time."""
    device, latency, _ = figures.times(row)
    times = (
        ("device", row.device_s, device, row.device_speedups),
        ("latency", row.latency_s, latency, row.latency_speedups),
    )
    return [_Line(time, shown, speedups) for time, seconds, shown, speedups in times if seconds is not None]


def _stacked_lines(row: Row) -> Iterator[_Line]:
    """One line a baseline, the time standing in the first of its own."""
    for line in _lines(row):
        first, *others = [name for name in baselines_of([row]) if name in line.speedups] or [""]
        yield replace(line, over=first)
        yield from (_Line("", "", line.speedups, name) for name in others)


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


def verdict_cell(row: Row) -> Text:
    """The verdict in its colour."""
    return Text(row.verdict, style=_STYLES.get(row.verdict.upper(), ""))


def _names(text: str) -> tuple[str, str]:
    """Heading and line name of a case: what it shares with its neighbours, and how it was built."""
    try:
        case = Case.parse(text)
    except UsageError:
        # A row of something that is no case stands by itself.
        return "", text
    cold = f" {case.l2}" if case.l2 != "warm" else ""
    return f"{case.workload} {case.precision} {case.shape}{cold}", f"{case.backend} {case.execution}"
