"""The A/A arm condemns a machine when it should, and not when one case is noisy."""

import numpy as np
import pytest

from trtgate.judge.environment import environment_valid
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


def test_noise_everywhere_is_the_machines_and_noise_in_one_case_is_not():
    assert environment_valid(suite(sd=0.06), SETTINGS).code == "aa_too_wide"
    assert environment_valid(suite() | {"noisy": suite(sd=0.06)["case1"]}, SETTINGS).verdict is Verdict.SAME


@pytest.mark.parametrize(
    "pairs", [{}, {"a": [0.0] * 7}, {"a": [0.0] * 7 + [float("nan")]}], ids=["none", "short", "not finite"]
)
def test_without_a_complete_arm_there_is_no_verdict(pairs):
    decision = environment_valid(pairs, SETTINGS)
    assert (decision.verdict, decision.code) == (Verdict.INVALID, "aa_missing")


@pytest.mark.parametrize("sd", [0.04, 0.05])
def test_noise_is_measured_against_what_is_judged(sd):
    """Latency's margin is 5%: pairs that scatter by 4 - 5% leave cases inconclusive, not the machine unfit."""
    noisy = suite(sd=sd)
    assert environment_valid(noisy, SETTINGS).code == "aa_too_wide"
    latency = dict.fromkeys(noisy, SETTINGS.margin.latency)
    assert environment_valid(noisy, SETTINGS, latency).verdict is Verdict.SAME
    assert environment_valid(suite(sd=0.3), SETTINGS, latency).code == "aa_too_wide"
