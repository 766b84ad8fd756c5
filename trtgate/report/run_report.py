"""Everything that `trtgate report` prints of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from trtgate.case import Case, Quantity
from trtgate.judge.comparability import host_of
from trtgate.judge.trend import change_points
from trtgate.policy import Policy
from trtgate.record import Identity, Record
from trtgate.report import html_page, markdown, outputs, terminal
from trtgate.report.from_records import machine_of, rows_of, skips_of
from trtgate.report.html_page import History
from trtgate.report.trends import Series

# The steadiest quantity that a case has speaks for its trend.
_SPEAKERS = (Quantity.DEVICE, Quantity.LATENCY)


def write(
    records: Sequence[Record],
    policy: Policy,
    past: Iterable[Series],
    targets: Mapping[str, str | None],
    notes: Sequence[str] = (),
) -> None:
    """Print a run's table and write the forms that were asked for.

    Args:
        records: of one run.
        policy: how rows are made of records.
        past: histories to draw trends of; only those of the run's own stack and host are used.
        targets: file by form (markdown, html, json); ``-`` is standard output, None leaves the form out.
        notes: sentences on the whole run, above its rows; JSON holds the records alone.

    Raises:
        StorageError: a file cannot be written.
    """
    confidence = policy.measure.confidence
    rows, skipped, machine = rows_of(records, policy), skips_of(records), machine_of(records)
    forms: dict[str, Callable[[], str]] = {
        "markdown": lambda: markdown.run_table(
            rows, skipped=skipped, machine=machine, confidence=confidence, notes=notes
        ),
        "html": lambda: html_page.page(
            rows,
            title=machine,
            skipped=skipped,
            histories=_histories(past, records[0].identity, policy),
            confidence=confidence,
            notes=notes,
        ),
        "json": lambda: json.dumps([record.to_json() for record in records], indent=2, allow_nan=False) + "\n",
    }
    if "-" not in targets.values():
        terminal.show(rows, skipped=skipped, title=machine, confidence=confidence, notes=notes)
    for name, target in targets.items():
        if target is not None:
            outputs.emit(forms[name](), target)


def _histories(past: Iterable[Series], machine: Identity, policy: Policy) -> dict[str, History]:
    found: dict[str, dict[str, Series]] = {}
    for series in past:
        if series.stack != machine.folder or series.quantity not in _SPEAKERS:
            continue
        if series.host == host_of(machine, Quantity(series.quantity), Case.parse(series.case)):
            found.setdefault(series.case, {})[series.quantity] = series
    drawn = {}
    for case, by_quantity in found.items():
        series = next(by_quantity[quantity] for quantity in _SPEAKERS if quantity in by_quantity)
        marks = [step.index for step in change_points(series.medians, policy.judge.trend, series.commits)]
        drawn[case] = History(series.medians.tolist(), marks)
    return drawn
