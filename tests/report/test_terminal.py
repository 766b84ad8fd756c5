"""The closing table: legible at every width, complete, with plain words."""

import io
import re

import pytest
from rich.console import Console
from spans import span

from trtgate.policy import Policy
from trtgate.record import Outcome, OutputError, Parity
from trtgate.report import figures, terminal
from trtgate.report.from_records import machine_of, rows_of, skips_of
from trtgate.report.rows import ParityCell, Range, Row, group_skips, legend


def _printed(width: int, rows, **options) -> str:
    text = io.StringIO()
    terminal.show(rows, console=Console(file=text, width=width), **options)
    return text.getvalue()


SPEEDUPS = ("3.33 [3.30 3.36]", "2.11 [2.09 2.13]", "1.50 [1.48 1.52]", "13.9 [13.8 14.0]", "123 [122 125]")


@pytest.mark.parametrize("width", [76, 80, 100, 109, 110, 120, 200])
def test_the_table_fits_and_keeps_whole_numbers(rows, width):
    shown = _printed(width, rows, confidence=0.99, title="NVIDIA H100", skipped=[("x", "Needs a GPU.")])
    assert all(len(line) <= width for line in shown.splitlines())
    for figure in ("0.213", "0.250", "4e-4", "incomparable", "mobilenet_v3_small fp16 b1", "99% interval", *SPEEDUPS):
        assert figure in shown, figure
    assert "resnet18 fp16 b8s128 cold" in shown
    assert "…" not in shown


@pytest.mark.parametrize("width", [40, 76, 80, 100])
def test_a_narrow_table_puts_each_speedup_beside_its_baseline(rows, width):
    lines = _printed(width, rows).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("tensorrt_engine"))
    found = [re.sub(r" +", " ", line[line.index(over) :])[: len(over) + 5] for line, over in zip(
        lines[first : first + 6], ("eager", "graphed", "inductor") * 2, strict=True
    )]  # fmt: skip
    assert found == [
        "eager 3.33", "graphed 2.11", "inductor 1.50", "eager 13.9", "graphed 2.00", "inductor 123 "
    ]  # fmt: skip
    assert "device" in lines[first]
    assert "0.213" in lines[first]
    assert "latency" in lines[first + 3]
    assert "0.250" in lines[first + 3]


def test_few_baselines_stand_side_by_side_in_a_narrow_table_too(rows):
    cells = {"eager": span(3.33)}
    shown = _printed(80, [Row(rows[0].case, device_s=span(1e-3), device_speedups=cells, verdict="passed")])
    assert "over eager" in shown
    assert re.search(r"^tensorrt_engine graph +device +1\.00 3\.33 \[3\.30 3\.36\] passed", shown, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 120])
def test_the_legend_explains_the_rate_where_it_has_a_column(rows, width):
    shown = _printed(width, rows)
    assert ("4,695" in shown) == ("inf/s: inferences a second" in shown) == (width == 120)


def test_device_and_latency_speedups_stand_on_lines_of_their_own(rows):
    lines = _printed(120, rows).splitlines()
    (device,) = (line for line in lines if "tensorrt_engine graph" in line and "device" in line)
    latency = lines[lines.index(device) + 1]
    assert "3.33" in device
    assert "13.9" in latency
    assert "latency" in latency


def test_skips_are_grouped_by_reason(rows):
    skipped = [(f"case{number}", "Needs a GPU.") for number in range(5)] + [("other", "No bf16.")]
    shown = " ".join(_printed(120, rows, skipped=skipped).split())
    assert "5 x Needs a GPU. (case0, case1, case2 and 2 more)" in shown
    assert "1 x No bf16. (other)" in shown
    assert [group.reason for group in group_skips(skipped)] == ["Needs a GPU.", "No bf16."]


def test_markup_in_a_reason_is_text(rows):
    shown = _printed(120, [Row("a-b", verdict="failed", note="[bold]x[/bold] [/nonsense]")])
    assert "[bold]x[/bold] [/nonsense]" in shown


def test_markup_in_the_name_of_a_baseline_is_text():
    shown = _printed(120, [Row("a-b", device_s=span(1e-3), device_speedups={"[/eager]": span(2.0)})])
    assert "over [/eager]" in " ".join(shown.split())


def test_the_legend_names_only_what_is_shown(rows):
    assert legend([]) == []
    assert len(legend(rows)) == 4
    (only,) = legend([Row("a", latency_s=span(1e-3))])
    assert only.startswith("latency: what a caller waits")


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        (Range(2.41, 2.38, 2.45), "2.41 [2.38 2.45]"),
        (Range(3, 1, 10), "3.00 [1.00 10.0]"),
        (Range(3, 1, 10.1), "3.00 (unclear)"),
        (Range(33.5, 0.06, 18290), "33.5 (unclear)"),
        (Range(2.3e58, 1e-9, 1e60), "2e58 (unclear)"),
        (Range(9999, 1, 1e60), "9,999 (unclear)"),
        (Range(9999.9, 1, 1e60), "1e4 (unclear)"),
        (Range(2, 0, 3), "2.00 (unclear)"),
        (Range(2, 1, float("inf")), "2.00 (unclear)"),
        (Range(float("inf"), 1, float("inf")), "inf (unclear)"),
        (Range(float("nan"), float("nan"), float("nan")), "nan (unclear)"),
        (None, "-"),
    ],
)
def test_an_interval_that_says_nothing_is_called_unclear(bounds, text):
    assert figures.interval(bounds) == text
    assert len(text) <= 16  # the table's column


@pytest.mark.parametrize("width", [80, 120, 200])
def test_an_unclear_speedup_neither_widens_a_table_nor_goes_unexplained(width):
    wild = Range(7.7e59, 1e-60, 1e120)
    cells = {"eager": wild, "eager_graph": wild, "inductor": span(1.5)}
    name = "resnet18-tensorrt_engine-fp16-b1-graph"
    row = Row(name, device_s=span(1e-3), latency_s=span(2e-3), device_speedups=cells, latency_speedups=cells)
    shown = _printed(width, [row])
    table = shown.partition("device: what")[0]
    assert all(len(line) <= width for line in shown.splitlines())
    assert len(table.splitlines()) == len(
        _printed(
            width,
            [
                Row(
                    name,
                    device_s=span(1e-3),
                    latency_s=span(2e-3),
                    device_speedups=dict.fromkeys(cells, span(2.0)),
                    latency_speedups=dict.fromkeys(cells, span(2.0)),
                )
            ],
        )
        .partition("device: what")[0]
        .splitlines()
    )
    assert "8e59 (unclear)" in table
    assert "unclear: too few rounds" in shown
    assert any(sentence.startswith("unclear: ") for sentence in legend([row]))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.000213, "2.13e-04"), (0.0123, "0.0123"), (0.1, "0.100"), (0.9999, "1.00"), (9.999, "10.0"),
     (12.34, "12.3"), (99.96, "100"), (4695, "4,695"), (2.5e6, "2.50e+06")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert figures.significant(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")])
def test_durations(seconds, text):
    assert figures.duration(seconds) == text


def test_progress_tells_what_and_how_much():
    assert terminal.progress(3, 96, "building x", 200) == "[ 3/96   3%, about 3 min 20 s left] building x"
    assert terminal.progress(0, 0, "x") == "[0/0   -] x"


def test_rows_come_from_records(make_record, h100):
    outputs = (
        OutputError(name="a", relative_l2=1e-4, yardstick=1e-4, bound=1e-3, max_abs=1, cosine=1),
        OutputError(name="b", relative_l2=8e-4, yardstick=1e-4, bound=1e-3, max_abs=1, cosine=1),
    )
    parity = Parity(passed=True, reference="float64", batches=4, outputs=outputs)
    records = [
        make_record(median_s=1e-3, baselines={"eager": 3e-3}, parity=parity),
        make_record(quantity="latency", median_s=2e-3),
        make_record(quantity="throughput", median_s=0.5e-3),
        make_record(quantity="plan", median_s=24 * 2**20, samples=1),
        make_record("vit_b_16-tensorrt_engine-fp8-b1-graph", outcome=Outcome.KNOWN_FAILURE, reason="RTX."),
        make_record("vit_b_16-torch_tensorrt-fp16-b1-stream", outcome=Outcome.SKIPPED, reason="Needs a GPU."),
    ]
    one, two = rows_of(records, Policy())
    assert one.device_s.estimate == pytest.approx(1e-3, rel=0.01)
    assert one.device_speedups["eager"].low < 3 < one.device_speedups["eager"].high * 1.01
    assert one.throughput_per_s.estimate == pytest.approx(2000, rel=0.01)
    assert one.throughput_per_s.low < one.throughput_per_s.high
    assert one.parity == ParityCell(8e-4, 1e-3)
    assert one.details == {"plan": "24.0 MiB"}
    assert (one.verdict, two.verdict, two.note) == ("passed", "known fail", "RTX.")
    ahead_of_time = [make_record(quantity=quantity, samples=1) for quantity in ("build", "plan")]
    assert rows_of(ahead_of_time, Policy())[0].verdict == "built"
    assert skips_of(records) == [("vit_b_16-torch_tensorrt-fp16-b1-stream", "Needs a GPU.")]
    assert machine_of(records).startswith(f"{h100.gpu}, driver {h100.driver}")
    (judged,) = rows_of(records[:1], Policy(), {records[0].case: ("slower", "By 5%.")})
    assert (judged.verdict, judged.note) == ("slower", "By 5%.")


def test_the_closing_table_of_a_run_is_lines(make_record):
    skipped = make_record("vit_b_16-eager-fp16-b1-stream", outcome=Outcome.SKIPPED, reason="Needs a GPU.")
    records = [make_record(baselines={"eager": 1e-3}), skipped]
    lines = terminal.summary(records, Policy(), width=100)
    assert all("\x1b" not in line for line in lines)
    assert any("0.340" in line for line in lines)
    assert any("Needs a GPU." in line for line in lines)
    assert any("\x1b" in line for line in terminal.summary(records, Policy(), width=100, colour=True))


def test_few_samples_do_not_break_the_table(make_record):
    (row,) = rows_of([make_record(samples=2, baselines={"eager": 1e-3})], Policy())
    assert row.device_s.low <= row.device_s.estimate <= row.device_s.high
    assert row.device_speedups == {}
