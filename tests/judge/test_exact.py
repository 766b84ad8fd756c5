"""Bytes and errors of parity: what counts as a change, and what is too small to be one."""

import json

import numpy as np
import pytest

from trtgate.case import Quantity
from trtgate.judge.exact import judge_exact, least_figure
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings
from trtgate.record import OutputError, Parity
from trtgate.report.sheet import Entry, Sheet

SETTINGS = JudgeSettings()
MIB = 2**20


def parity(*bounds):
    outputs = [
        OutputError(name=str(n), relative_l2=0, yardstick=0, bound=bound, max_abs=0, cosine=1)
        for n, bound in enumerate(bounds)
    ]
    return Parity(passed=True, reference="float64", batches=4, outputs=tuple(outputs))


def judged(before, after, bounds):
    least = least_figure(Quantity.PARITY, SETTINGS, parity(*bounds), len(before))
    margin = SETTINGS.margin.parity
    return judge_exact(np.array(before), np.array(after), Quantity.PARITY, margin, least)


@pytest.mark.parametrize(
    ("before", "after", "bound", "verdict"),
    [
        (0.0, 2.6e-7, 2e-2, Verdict.SAME),  # ONNX Runtime is exact in int8
        (2.6e-7, 0.0, 2e-2, Verdict.SAME),
        (1.5e-7, 3.1e-7, 1e-5, Verdict.SAME),  # both are a hundredth of what is allowed
        (0.0, 5e-3, 2e-2, Verdict.SLOWER),
        (5e-4, 9e-4, 1.5e-3, Verdict.SAME),
        (5e-4, 1.1e-3, 1.5e-3, Verdict.SLOWER),
        (1.1e-3, 5e-4, 1.5e-3, Verdict.FASTER),
    ],
)
def test_an_error_counts_only_where_it_is_a_share_of_its_bound(before, after, bound, verdict):
    decision = judged([before], [after], [bound])
    assert decision.verdict is verdict
    assert np.isfinite(decision.interval.estimate)


def test_what_was_raised_is_said_beside_the_true_figures():
    reason = judged([0.0], [2.6e-7], [2e-2]).reason
    assert reason == "Same: +0.00% (0 -> 2.6e-07; less than 0.002 counts as that), margin 100%."
    assert "counts as that" not in judged([5e-4], [9e-4], [1.5e-3]).reason


def test_each_output_has_its_own_bound_and_a_comparison_of_others_raises_nothing():
    assert judged([1e-6, 1e-6], [1e-6, 1e-5], [1e-3, 1e-5]).verdict is Verdict.SLOWER
    assert judged([1e-6, 1e-6], [1e-6, 1e-5], [1e-3, 1e-3]).verdict is Verdict.SAME
    assert judged([1e-6, 1e-6], [1e-6, 1e-5], [1e-3]).verdict is Verdict.SLOWER


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0, 4096, Verdict.SAME), (0, 3 * MIB, Verdict.SLOWER), (100 * MIB, 103 * MIB, Verdict.SLOWER)],
)
def test_memory_that_appears_from_nothing_counts_from_one_step_of_the_device_on(before, after, verdict):
    least = least_figure(Quantity.MEMORY, SETTINGS)
    decision = judge_exact(np.array([before]), np.array([after]), Quantity.MEMORY, SETTINGS.margin.memory, least)
    assert decision.verdict is verdict


def test_what_has_no_ratio_has_no_interval_and_every_form_can_say_it():
    decision = judge_exact(np.array([0.0]), np.array([4096.0]), Quantity.PLAN, 0.05)
    assert (decision.verdict, decision.interval) == (Verdict.SLOWER, None)
    assert decision.reason == "Worse: 0 bytes -> 4,096 bytes, margin 5%."
    sheet = Sheet("trtgate gate", "base", "head", "regression", (Entry("case", "plan", decision, False),))
    assert json.loads(json.dumps(sheet.to_json(), allow_nan=False))["entries"][0]["ratio"] is None
