"""The A/A arm condemns a machine when it should, and not when one case is noisy."""

import numpy as np
import pytest

from trtgate.case import Quantity
from trtgate.judge.environment import environment_valid, repeats_well
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings

SETTINGS = JudgeSettings()


def suite(bias=0.0, sd=0.004, cases=8, count=8):
    rng = np.random.default_rng(0)
    return {f"case{i}": list(bias + rng.normal(0, sd, count)) for i in range(cases)}


def test_identical_code_that_looks_identical_makes_the_machine_fit():
    decision = environment_valid(suite(), SETTINGS)
    assert (decision.verdict, decision.code) == (Verdict.SAME, "aa_same")


def test_one_biased_case_is_named():
    decision = environment_valid(suite() | {"crooked": list(suite(bias=0.03)["case0"])}, SETTINGS)
    assert (decision.verdict, decision.code) == (Verdict.INVALID, "aa_differs")
    assert decision.reason.startswith("Identical code looks different: 'crooked' +3")
    assert "Wait until nothing else runs here" in decision.reason  # true on every machine, with a GPU or without


def test_a_bias_far_below_the_margin_is_tolerated():
    assert environment_valid(suite(bias=0.002, sd=0.0003), SETTINGS).verdict is Verdict.SAME


def test_a_wider_margin_tolerates_a_larger_bias():
    biased = suite(bias=0.02)
    assert environment_valid(biased, SETTINGS).verdict is Verdict.INVALID
    assert environment_valid(biased, SETTINGS, dict.fromkeys(biased, 0.10)).verdict is Verdict.SAME


def judged(pairs, margins=None):
    """All cases of a kind that a fit machine repeats well."""
    return environment_valid(pairs, SETTINGS, margins, steady=pairs)


def test_noise_everywhere_is_the_machines_and_noise_in_one_case_is_not():
    assert judged(suite(sd=0.06)).code == "aa_too_wide"
    assert judged(suite() | {"noisy": suite(sd=0.06)["case1"]}).verdict is Verdict.SAME


def test_noise_of_a_few_cases_or_of_a_noisy_kind_is_theirs_and_not_the_machines():
    assert judged(suite(sd=0.06, cases=4)).code == "aa_too_wide"
    assert judged(suite(sd=0.06, cases=3)).verdict is Verdict.SAME
    noisy = suite(sd=0.06)
    assert environment_valid(noisy, SETTINGS).verdict is Verdict.SAME
    graphed = {f"graphed {case}": ratios for case, ratios in suite(sd=0.06, cases=4).items()}
    assert environment_valid(noisy | graphed, SETTINGS, steady=graphed).code == "aa_too_wide"
    quiet = {f"graphed {case}": ratios for case, ratios in suite(cases=4).items()}
    assert environment_valid(noisy | quiet, SETTINGS, steady=quiet).verdict is Verdict.SAME


@pytest.mark.parametrize(
    ("case", "quantity", "steady"),
    [
        ("resnet18-tensorrt_engine-fp16-b8-graph", Quantity.DEVICE, True),
        ("resnet18-tensorrt_engine-fp16-b8-graph", Quantity.LATENCY, False),
        ("resnet18-tensorrt_engine-fp16-b8-stream", Quantity.DEVICE, False),
        ("resnet18-eager-fp32-b1-stream", Quantity.LATENCY, False),
    ],
)
def test_what_a_fit_machine_repeats_well(case, quantity, steady):
    assert repeats_well(case, quantity) is steady


@pytest.mark.parametrize(
    "pairs", [{}, {"a": [0.0] * 7}, {"a": [0.0] * 7 + [float("nan")]}], ids=["none", "short", "not finite"]
)
def test_without_a_complete_arm_there_is_no_verdict(pairs):
    decision = environment_valid(pairs, SETTINGS)
    assert (decision.verdict, decision.code) == (Verdict.INVALID, "aa_missing")


@pytest.mark.parametrize("sd", [0.04, 0.05])
def test_noise_is_measured_against_what_is_judged(sd):
    """At a margin of 5%, pairs that scatter by 4 - 5% leave cases inconclusive, not the machine unfit."""
    noisy = suite(sd=sd)
    assert judged(noisy).code == "aa_too_wide"
    wider = dict.fromkeys(noisy, SETTINGS.margin.latency)
    assert judged(noisy, wider).verdict is Verdict.SAME
    assert judged(suite(sd=0.3), wider).code == "aa_too_wide"
