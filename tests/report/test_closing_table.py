"""The columns of the closing table: headings over their cells, and no figure or word broken, at every width."""

import io

import pytest
from rich.console import Console
from spans import span

from trtgate.report import terminal
from trtgate.report.closing_table import layout_for
from trtgate.report.rows import ParityCell, Range, Row

CELL = "simple_cnn fp32 b1"
SPEEDUPS = {"eager": span(3.33), "eager_graph": span(2.11), "inductor": Range(1.5, 0.1, 99)}
# Backend, execution, device and latency in seconds.
BUILT = (
    ("tensorrt_engine", "stream", 0.0426e-3, 0.262e-3),
    ("onnxruntime", "graph", 9.999, 51e-3),
    ("eager", "graph", 12.345, 51e-3),
)


def _rows(verdict):
    return [
        Row(
            f"simple_cnn-{backend}-fp32-b1-{execution}",
            device_s=span(device),
            latency_s=span(latency),
            throughput_per_s=span(27964.0),
            device_speedups=SPEEDUPS,
            latency_speedups=SPEEDUPS,
            parity=ParityCell(2e-7, 1e-5),
            verdict=verdict,
            unsteady=frozenset({"latency"} if latency == 51e-3 else ()),
        )
        for backend, execution, device, latency in BUILT
    ]


def _cut(lines, columns):
    """The lines at the places of the columns: texts by heading. Nothing stands between two columns."""
    found = {}
    for line in lines:
        start = 0
        for column in columns:
            end = start + column.width
            assert line[end : end + 1].strip() == "", (column.heading, line)
            found.setdefault(column.heading.strip(), []).append(line[start:end])
            start = end + 1
    return found


@pytest.mark.parametrize("verdict", ["passed", "known fail", "inconclusive"])
@pytest.mark.parametrize("width", [80, 100, 110, 120, 160])
def test_headings_stand_over_their_cells_and_nothing_is_broken(width, verdict):
    rows = _rows(verdict)
    layout = layout_for(rows, width)
    text = io.StringIO()
    terminal.show(rows, console=Console(file=text, width=width))
    lines = text.getvalue().partition("\n\n")[0].splitlines()
    assert all(len(line) <= width for line in lines)
    rule = next(number for number, line in enumerate(lines) if line.startswith("─"))
    headings = _cut(lines[rule - (1 if layout.stacked else 2) : rule], layout.columns)
    body = _cut((line for line in lines[rule + 1 :] if line.strip() != CELL), layout.columns)
    for column in layout.columns:
        name = column.heading.strip()
        assert " ".join(" ".join(headings[name]).split()) == name
        bottom, cells = headings[name][-1], [cell for cell in body[name] if cell.strip()]
        if column.right or name in ("ms", "inf/s"):  # a mark of doubt hangs behind the figure
            assert {len(cell.rstrip(" ?")) for cell in cells} == {len(bottom.rstrip())}, (name, bottom, cells)
        else:
            assert not any(text.startswith(" ") for text in (bottom, *cells)), (name, bottom, cells)
    whole = {name: {cell.strip() for cell in cells} - {""} for name, cells in body.items()}
    assert whole["ms"] == {"0.0426", "0.262", "51.0?", "9,999", "12,345"}
    assert whole["verdict"] == {verdict}
    assert {"3.33 [3.30 3.36]", "2.11 [2.09 2.13]", "1.50 (unclear)"} <= set.union(*whole.values())
    assert {word for cell in whole["case"] for word in cell.split()} == {word for built in BUILT for word in built[:2]}
