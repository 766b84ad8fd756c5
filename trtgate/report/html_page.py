"""One self-contained page: the table of a run, its trends, and what was not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from trtgate.report import figures, sparkline
from trtgate.report.notes import SharedReasons
from trtgate.report.rows import BASELINE_NAMES, Row, baselines_of, group_skips, legend, split_proofs

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dce2, #3a4048); --soft: light-dark(#5c6670, #9aa4ae);
  --bad: light-dark(#b3261e, #ff8a80); --good: light-dark(#1b6e3c, #7ddc9a); --accent: light-dark(#1f5fbf, #8ab4f8); }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 92rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { position: sticky; top: 0; background: Canvas; color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, td.note { text-align: left; } td.note { white-space: normal; min-width: 12rem; }
td { font-variant-numeric: tabular-nums; } code { font-size: .92em; } .soft { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); }
polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; } circle { fill: var(--accent); }
line.mark { stroke: var(--bad); stroke-dasharray: 2 2; } .scroll { overflow-x: auto; }
"""
_GOOD, _BAD = ("passed", "built", "same", "faster"), ("failed", "slower", "missing", "invalid")


@dataclass(frozen=True, slots=True)
class History:
    """Medians of a case's device time (or latency without a GPU), oldest first, and where a new level begins."""

    medians: Sequence[float]
    marks: Sequence[int] = ()


def page(
    rows: Sequence[Row],
    *,
    title: str,
    skipped: Iterable[tuple[str, str]] = (),
    histories: Mapping[str, History] | None = None,
    confidence: float | None = None,
    notes: Iterable[str] = (),
) -> str:
    """The page as text. Everything that comes from a record is escaped; nothing is fetched from elsewhere.

    Args:
        rows: one a case.
        title: machine and stack in one line.
        skipped: case and reason.
        histories: by case id; a column of trends is drawn where there is at least one.
        confidence: of the intervals.
        notes: sentences on the whole run, above its rows.
    """
    rows, proofs = split_proofs(rows)
    names, reasons = baselines_of(rows), SharedReasons(rows)
    head = ["case", "device ms", "latency ms", "inf/s"]
    head += [f"device, over {BASELINE_NAMES.get(name, name)}" for name in names]
    head += [f"latency, over {BASELINE_NAMES.get(name, name)}" for name in names]
    head += ["parity", *(["trend"] if histories else []), "verdict"]
    body = "\n".join(_row(row, names, reasons, histories) for row in rows)
    level = f" Intervals: {confidence:.0%}." if confidence is not None else ""
    meaning = "".join(f"<li>{escape(sentence)}</li>" for sentence in (*proofs, *reasons.sentences, *legend(rows)))
    groups = "".join(
        f"<li>{len(group.cases)} × {escape(group.reason)} <span class='soft'>{escape(', '.join(group.cases))}</span>"
        "</li>"
        for group in group_skips(skipped)
    )
    said = "".join(f'<p class="bad">{escape(note)}</p>\n' for note in notes)
    absent = f"<h2>Not run</h2><ul>{groups}</ul>" if groups else ""
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>trtgate: {escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>trtgate</h1><p>{escape(title)}.<span class="soft">{level}</span></p>\n{said}'
        f'<div class="scroll"><table><thead><tr>{"".join(f"<th>{escape(name)}</th>" for name in head)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>\n<ul class='soft'>{meaning}</ul>{absent}\n</body></html>\n"
    )
    return figures.printable(text)


def _row(row: Row, names: Sequence[str], reasons: SharedReasons, histories: Mapping[str, History] | None) -> str:
    cells = [
        f"<td><code>{escape(row.case)}</code></td>",
        *map(_cell, figures.times(row)),
    ]
    for speedups in (row.device_speedups, row.latency_speedups):
        for name in names:
            bounds = speedups.get(name)
            slower = bounds is not None and bounds.high < 1
            cells.append(_cell(figures.interval(bounds), "bad" if slower else ""))
    cells.append(_cell(figures.error_over_bound(row.parity), "bad" if row.parity and not row.parity.within else ""))
    if histories:
        history = histories.get(row.case)
        drawn = sparkline.svg(history.medians, history.marks, escape(f"trend of {row.case}")) if history else ""
        cells.append(f"<td>{drawn}</td>")
    word = row.verdict.lower()
    style = "good" if word in _GOOD else "bad" if word in _BAD else ""
    why = reasons.cell(row)
    note = f' <span class="soft">{escape(why)}</span>' if why else ""
    cells.append(f'<td class="note"><span class="{style}">{escape(row.verdict)}</span>{note}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, style: str = "") -> str:
    return f'<td class="{style}">{escape(text)}</td>' if style else f"<td>{escape(text)}</td>"
