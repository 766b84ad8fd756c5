"""Comparing stored runs: every way in which two rows can meet, or miss each other."""

import numpy as np
import pytest

from trtgate.case import Case, Quantity
from trtgate.errors import NothingComparedError
from trtgate.judge.baseline import compare_runs, judge_exact
from trtgate.judge.comparability import differences
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings
from trtgate.record import Outcome, OutputError, Parity, Series

SETTINGS = JudgeSettings()
GRAPH, STREAM = "resnet18-tensorrt_engine-fp16-b8-graph", "resnet18-eager-fp16-b8-stream"


@pytest.fixture
def other(make_record):
    """A row that both runs share, so that there is something to compare."""
    return make_record(case="simple_cnn-eager-fp32-b1-graph")


def decide(base, head, other):
    shared = [other]
    found = {(c.case, c.quantity): c.decision for c in compare_runs(shared + base, shared + head, SETTINGS)}
    (record,) = {r.key: r for r in base + head}.values()
    return found[record.key]


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, Verdict.INCONCLUSIVE), (1.5, Verdict.SLOWER), (1 / 1.5, Verdict.FASTER)]
)
def test_only_large_changes_of_a_graphed_row_stand_out(make_record, other, ratio, verdict):
    decision = decide([make_record(GRAPH)], [make_record(GRAPH, median_s=0.34e-3 * ratio, seed=1)], other)
    assert decision.verdict is verdict
    assert "Weaker evidence than 'trtgate gate'" in decision.reason


def test_what_one_process_can_show_depends_on_how_it_ran(make_record, other):
    slower = {"median_s": 0.34e-3 * 1.5, "seed": 1}
    assert decide([make_record(STREAM)], [make_record(STREAM, **slower)], other).verdict is Verdict.INCONCLUSIVE


def test_new_vanished_and_doubled_rows(make_record, other):
    row = make_record(GRAPH)
    assert decide([], [row], other).verdict is Verdict.NEW
    assert decide([row], [], other).verdict is Verdict.MISSING
    doubled = decide([row], [row, row], other)
    assert (doubled.verdict, doubled.code) == (Verdict.INVALID, "duplicate")
    assert "head holds this row 2 times" in doubled.reason


@pytest.mark.parametrize(
    ("base", "head", "verdict", "code"),
    [
        (Outcome.MEASURED, Outcome.FAILED, Verdict.MISSING, "failed"),
        (Outcome.MEASURED, Outcome.KNOWN_FAILURE, Verdict.MISSING, "failed"),
        (Outcome.MEASURED, Outcome.SKIPPED, Verdict.MISSING, "vanished"),
        (Outcome.FAILED, Outcome.MEASURED, Verdict.NEW, "recovered"),
        (Outcome.FAILED, Outcome.FAILED, Verdict.INVALID, "failed_both"),
        (Outcome.KNOWN_FAILURE, Outcome.KNOWN_FAILURE, Verdict.SAME, "known_failure"),
        (Outcome.SKIPPED, Outcome.MEASURED, Verdict.NEW, "new"),
    ],
)
def test_rows_that_were_not_measured(make_record, other, base, head, verdict, code):
    decision = decide(
        [make_record(GRAPH, outcome=base, reason="because")],
        [make_record(GRAPH, outcome=head, reason="because")],
        other,
    )
    assert (decision.verdict, decision.code) == (verdict, code)


def test_a_known_failure_of_the_optimiser_must_not_become_worse(make_record, other, h100):
    def row(fp32, **fields):
        facts = {"compute_layers": {"fp8": 60 - fp32, "fp32": fp32}, "kernels": 70}
        return make_record(
            GRAPH, "optimisation", outcome=Outcome.KNOWN_FAILURE, reason="because", **({"facts": facts} | fields)
        )

    assert decide([row(24)], [row(24)], other).code == "known_failure"
    worse = decide([row(24)], [row(60)], other)
    assert worse.verdict is Verdict.SLOWER
    assert "layers that multiply in fp32: 60 instead of 24" in worse.reason
    assert decide([row(24)], [row(23)], other).verdict is Verdict.FASTER
    moved = row(60, identity=h100.model_copy(update={"driver": "590.1"}))
    assert decide([row(24)], [moved], other).verdict is Verdict.INCOMPARABLE
    # Runs of before a failure kept its census.
    assert decide([row(24, facts={})], [row(60)], other).code == "known_failure"


def test_another_machine_is_incomparable_and_names_the_difference(make_record, other, h100):
    moved = make_record(GRAPH, identity=h100.model_copy(update={"driver": "590.1"}))
    decision = decide([make_record(GRAPH)], [moved], other)
    assert decision.verdict is Verdict.INCOMPARABLE
    assert "driver 580.159.04 and 590.1" in decision.reason


def test_runs_without_a_common_case_are_no_comparison(make_record, other):
    with pytest.raises(NothingComparedError, match="no measured case in common"):
        compare_runs([make_record(GRAPH)], [other], SETTINGS)


def exact(make_record, quantity, value, **fields):
    return make_record(GRAPH, quantity, series=Series.of([value]), **fields)


@pytest.mark.parametrize(
    ("quantity", "after", "verdict"),
    [
        ("plan", 104.0, Verdict.SAME),
        ("plan", 106.0, Verdict.SLOWER),
        ("plan", 90.0, Verdict.FASTER),
        ("parity", 190.0, Verdict.SAME),
        ("parity", 210.0, Verdict.SLOWER),
    ],
)
def test_bytes_and_errors_are_compared_exactly(make_record, other, quantity, after, verdict):
    decision = decide([exact(make_record, quantity, 100.0)], [exact(make_record, quantity, after)], other)
    assert decision.verdict is verdict


@pytest.mark.parametrize("fact", ["from_cache", "loads_libraries"])
def test_memory_of_builds_that_did_not_begin_alike_is_not_compared(make_record, other, fact):
    alike = {"where": "device_process", "from_cache": True, "loads_libraries": False}
    base = exact(make_record, "memory", 2.0**30, facts=alike)
    assert decide([base], [exact(make_record, "memory", 1.5 * 2**30, facts=alike)], other).verdict is Verdict.SLOWER
    head = exact(make_record, "memory", 1.5 * 2**30, facts=alike | {fact: not alike[fact]})
    decision = decide([base], [head], other)
    assert (decision.verdict, decision.code) == (Verdict.INCOMPARABLE, "other_start")


def test_figures_stand_with_the_unit_that_they_have(make_record, other):
    error = decide([exact(make_record, "parity", 7.07561e-8)], [exact(make_record, "parity", 7.07561e-8)], other)
    assert error.reason == "Same: +0.00% (7.08e-08 -> 7.08e-08), margin 100%."
    assert error.why == "+0.00% (7.08e-08 -> 7.08e-08), margin 100%."
    grown = decide([exact(make_record, "plan", 25165824.0)], [exact(make_record, "plan", 50331648.0)], other)
    assert "(25,165,824 bytes -> 50,331,648 bytes)" in grown.reason


@pytest.mark.parametrize(
    ("after", "verdict", "figures"),
    [
        ([3.0, 0.1], Verdict.SLOWER, "+200.0% (1 -> 3)"),
        ([1.1, 0.1], Verdict.FASTER, "-90.0% (1 -> 0.1)"),
        ([1.1, 0.6], Verdict.SAME, "-40.0% (1 -> 0.6)"),
    ],
)
def test_the_figure_that_decides_is_the_one_that_is_named(after, verdict, figures):
    decision = judge_exact(np.array([1.0, 1.0]), np.array(after), Quantity.PARITY, 1.0)
    assert decision.verdict is verdict
    assert figures in decision.reason


def test_an_error_that_appears_from_zero_is_worse_where_it_is_a_share_of_its_bound(make_record, other):
    def row(error, bound=None):
        outputs = (OutputError(name="y", relative_l2=error, yardstick=0, bound=bound or 1, max_abs=0, cosine=1),)
        compared = Parity(passed=True, reference="float64", batches=4, outputs=outputs) if bound else None
        return exact(make_record, "parity", error, parity=compared)

    assert decide([row(0.0)], [row(1e-6)], other).verdict is Verdict.SLOWER  # an old row that tells no bound
    assert decide([row(0.0, bound=1e-6)], [row(1e-6, bound=1e-6)], other).verdict is Verdict.SLOWER
    assert decide([row(0.0, bound=1e-3)], [row(1e-6, bound=1e-3)], other).verdict is Verdict.SAME


def test_memory_is_compared_from_a_step_of_the_device_on(make_record, other):
    mib, own = 2.0**20, {"facts": {"where": "device_process"}}
    for before, after, verdict in ((0.0, 4096.0, Verdict.SAME), (100 * mib, 103 * mib, Verdict.SLOWER)):
        old, new = (exact(make_record, "memory", size, **own) for size in (before, after))
        decision = decide([old], [new], other)
        assert decision.verdict is verdict


def test_a_build_from_the_cache_tells_no_build_time(make_record, other):
    cached = exact(make_record, "build", 0.01, facts={"from_cache": True})
    decision = decide([exact(make_record, "build", 0.5)], [cached], other)
    assert (decision.code, decision.reason) == ("from_cache", "A build was read from the cache: it has no build time.")


def test_a_census_that_changed_is_a_regression_by_layer(make_record, other):
    def row(facts):
        return exact(make_record, "optimisation", 1.0, facts=facts)

    before, after = row({"kernels": 20, "casts": 0}), row({"kernels": 22, "casts": 0})
    decision = decide([before], [after], other)
    assert decision.verdict is Verdict.SLOWER
    assert "22 kernels instead of 20" in decision.reason
    assert decide([after], [before], other).verdict is Verdict.FASTER
    assert decide([before], [before], other).verdict is Verdict.SAME
    silent = decide([before], [row({"kernels": 20})], other)
    assert (silent.verdict, silent.code) == (Verdict.SLOWER, "facts_missing")
    assert silent.reason == "The base's record states casts; the head's does not."
    telling = {"kernels": 20, "compute": {"conv": {"layer": "c", "datatype": "fp16", "work": 1.0}}}
    emptied = decide([row(telling)], [row(telling | {"compute": {}})], other)
    assert (emptied.verdict, emptied.code) == (Verdict.SLOWER, "facts_missing")


def test_a_case_may_be_given_a_margin_for_its_layers(make_record, other):
    def row(kernels):
        return exact(make_record, "optimisation", kernels, facts={"kernels": kernels})

    assert decide([row(20)], [row(21)], other).verdict is Verdict.SLOWER
    entry = {"case": GRAPH, "quantity": "optimisation", "margin": 0.1, "reason": "its builds differ by a kernel or two"}
    settings = JudgeSettings.model_validate({"case_margin": [entry]})
    found = {c.quantity: c.decision for c in compare_runs([other, row(20)], [other, row(21)], settings)}
    assert found["optimisation"].verdict is Verdict.SAME


def test_which_parts_of_the_identity_count(h100, cpu_only):
    host = h100.model_copy(update={"threads": 2})
    engine, eager = Case.parse(GRAPH), Case.parse(STREAM)
    assert differences(h100, host, Quantity.DEVICE, engine) == []
    assert differences(h100, host, Quantity.LATENCY, engine) == ["threads 16 and 2"]
    wrapper = h100.model_copy(update={"torch_tensorrt": "2.12"})
    assert differences(h100, wrapper, Quantity.DEVICE, engine) == []
    assert (
        len(differences(h100, wrapper, Quantity.DEVICE, Case.parse(GRAPH.replace("tensorrt_engine", "torch_tensorrt"))))
        == 1
    )
    slower_cpu = cpu_only.model_copy(update={"cpu": "another"})
    assert differences(cpu_only, slower_cpu, Quantity.DEVICE, eager) == ["CPU AMD EPYC 9554 and another"]
    for field in ("gpu", "driver", "cuda", "tensorrt", "tensorrt_flavour", "torch"):
        value = "tensorrt" if field == "tensorrt_flavour" else "other"
        assert differences(h100, h100.model_copy(update={field: value}), Quantity.PLAN, engine)
