"""What rows say of the records they were made of: unsteady samples, cells kept together, reasons once."""

import io

import numpy as np
import pytest
from rich.console import Console

from trtgate.policy import JudgeSettings, Policy
from trtgate.record import Baseline, Outcome, Series
from trtgate.report import html_page, markdown, terminal
from trtgate.report.from_records import rows_of

EAGER, ENGINE = "simple_cnn-eager-fp32-b1-stream", "simple_cnn-tensorrt_engine-fp32-b1-graph"
RIVAL = "simple_cnn-inductor-fp32-b1-graph"
OTHER = "resnet18-eager-fp32-b1-stream"
MICRO = [f"{name}-tensorrt_engine-fp16-b1-stream" for name in ("attention", "mlp", "conv_block")]


def _torn(middle_s, count=50):
    """Samples whose interquartile range is as large as their median."""
    return Series.of(middle_s * np.tile([0.5, 0.5, 1.0, 1.5, 1.5], count // 5))


def _forms(rows):
    text = io.StringIO()
    terminal.show(rows, console=Console(file=text, width=160))
    return text.getvalue(), markdown.run_table(rows), html_page.page(rows, title="machine")


def _terminal(rows, width=160):
    text = io.StringIO()
    terminal.show(rows, console=Console(file=text, width=width))
    return text.getvalue()


def test_a_time_whose_samples_lie_far_apart_is_marked_in_every_form(make_record):
    records = [
        make_record(EAGER, "latency", series=_torn(51e-3)),
        make_record(EAGER, "throughput", series=_torn(50e-3)),
        make_record(ENGINE, "latency", median_s=0.115e-3),
    ]
    unsteady, steady = rows_of(records, Policy())
    assert (unsteady.unsteady, steady.unsteady) == ({"latency", "throughput"}, set())
    for form in _forms([unsteady, steady]):
        assert "51.0?" in form
        assert "20.0?" in form
        assert "0.115" in form
        assert "0.115?" not in form
        assert "latency: samples spread by 100% of their median (interquartile range)." in form.replace("\n", " ")
        assert "?: the samples of this time lie far apart" in form
    assert all("?" not in form.partition("<style>")[0] for form in _forms([steady])[:2])
    lenient = Policy(judge=JudgeSettings(spread_warning=2.0))
    assert [row.unsteady for row in rows_of(records, lenient)] == [set(), set()]


def test_a_rate_is_shown_also_where_its_samples_bound_it_on_one_side_only(make_record):
    """Two levels, one after the other: two independent samples at most, so that the interval reaches below zero."""
    levels = Series.of(np.repeat([2e-3, 4e-3], 10))
    (row,) = rows_of([make_record(EAGER, "throughput", series=levels)], Policy())
    assert row.throughput_per_s.low < row.throughput_per_s.estimate == pytest.approx(333, rel=0.01)
    assert all("333?" in form for form in _forms([row]))


def test_a_verdict_does_not_hide_that_its_time_is_unsteady(make_record):
    (row,) = rows_of(
        [make_record(EAGER, "latency", series=_torn(51e-3))], Policy(), {EAGER: ("same", "latency: Fine.")}
    )
    assert row.note == "latency: Fine. latency: samples spread by 100% of their median (interquartile range)."


def test_an_unclear_speedup_names_the_baseline_that_made_it_so(make_record):
    # Two levels, one after the other: nobody can say which of them the candidate is to be compared with.
    wild = Series.of(np.repeat([1e-3, 1.0], 25))
    record = make_record(RIVAL, "latency", median_s=1e-3, baselines={"eager_graph": 2e-3})
    (clear,) = rows_of([record], Policy())
    assert clear.note == ""
    torn = record.model_copy(update={"baselines": {"eager_graph": Baseline(case=EAGER, series=wild)}})
    (row,) = rows_of([torn], Policy())
    assert row.note == "latency: unclear over graphed eager, whose samples spread by 200% of their median."
    assert row.unsteady == set()


def test_rows_of_a_cell_stand_together_although_failures_are_stored_behind_the_times(make_record):
    failed = make_record(ENGINE, "latency", outcome=Outcome.FAILED, reason="Because.")
    records = [make_record(EAGER, "latency"), make_record(OTHER, "latency"), make_record(RIVAL, "latency"), failed]
    rows = rows_of(records, Policy())
    assert [row.case for row in rows] == [EAGER, RIVAL, ENGINE, OTHER]
    assert _terminal(rows).count("simple_cnn fp32 b1\n") == 1


@pytest.mark.parametrize(
    ("reason", "note"),
    [
        (f"{ENGINE} does not compute it.", "does not compute it."),
        (f"{ENGINE}: no layer.", "no layer."),
        (f"{ENGINE}-cold is another.", f"{ENGINE}-cold is another."),
        (f"Not {ENGINE}.", f"Not {ENGINE}."),
    ],
)
def test_a_reason_does_not_begin_with_the_case_that_its_row_names(make_record, reason, note):
    (row,) = rows_of([make_record(ENGINE, outcome=Outcome.FAILED, reason=reason)], Policy())
    assert (row.verdict, row.note) == ("failed", note)
    (missed,) = rows_of([make_record(ENGINE, reason=reason)], Policy())
    assert (missed.verdict, missed.note) == ("failed", note)


def test_equal_reasons_are_told_once_although_each_names_its_case(make_record):
    cases = [f"{name}-tensorrt_engine-fp32-b1-graph" for name in ("resnet18", "resnet50", "vit_b_16", "swin_t")]
    records = [
        make_record(case, "latency", outcome=Outcome.FAILED, reason=f"TensorRT built nothing for {case}: error 1.")
        for case in cases
    ]
    alone = make_record(ENGINE, "latency", outcome=Outcome.FAILED, reason=f"TensorRT built nothing for {ENGINE}: no.")
    notes = _terminal(rows_of([*records, alone], Policy())).partition("Why:\n")[2]
    assert " ".join(notes.split()) == (
        "4 x failed, TensorRT built nothing for CASE: error 1. "
        f"({', '.join(cases[:3])} and 1 more) "
        f"{ENGINE}: failed, TensorRT built nothing for {ENGINE}: no."
    )
    assert [line[:6].strip() != "" for line in notes.splitlines()] == [True, False, True]


def test_proofs_that_went_well_take_one_line_and_the_others_one_each(make_record):
    def proof(case, **fields):
        return make_record(case, "optimisation", samples=1, **fields)

    ended = {MICRO[1]: Outcome.FAILED, MICRO[2]: Outcome.KNOWN_FAILURE}
    good = [proof(MICRO[0]), proof(MICRO[0].replace("fp16", "bf16"))]
    bad = [proof(case, outcome=outcome, reason="No fusion.") for case, outcome in ended.items()]
    built = [make_record(ENGINE, "build", samples=1), proof(ENGINE)]  # a case of the matrix has its line
    rows = rows_of([*good, *bad, *built], Policy())
    shown = _terminal(rows)
    sentence = "Optimiser proofs, without times: 2 passed (attention)."
    assert sentence in shown.splitlines()
    assert shown.count("attention") == 1
    assert f"  {MICRO[1]}: failed" in shown.splitlines()
    assert f"  {MICRO[2]}: known fail" in shown.splitlines()
    assert f"{MICRO[1]}: failed, No fusion." in shown
    assert "tensorrt_engine graph" in shown
    for form in _forms(rows)[1:]:
        assert sentence.replace("(", "").replace(")", "") in form.replace("(", "").replace(")", "")
        assert MICRO[0] not in form
        assert MICRO[1] in form
    only = _terminal(rows_of(good, Policy(), {case.case: ("same", "optimisation: Same.") for case in good}))
    assert only.strip() == "Optimiser proofs, without times: 2 same (attention)."
