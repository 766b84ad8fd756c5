"""Build time is judged like any time: one ratio a pair of fresh builds, its own margin, its own A/A arm."""

import numpy as np
import pytest

from trtgate.case import Quantity
from trtgate.gate.evidence import Evidence
from trtgate.gate.plan import BASE, HEAD, TWIN
from trtgate.judge.verdict import Verdict
from trtgate.policy import Policy

CASES = ("resnet18-tensorrt_engine-fp16-b8-graph", "vit_b_16-tensorrt_engine-fp16-b8-graph")
BUILD = Quantity.BUILD


@pytest.fixture
def evidence(h100):
    made = Evidence(Policy(), (BUILD,))
    for role in (BASE, HEAD):
        made.identify(role, h100.model_dump(mode="json"))
    made.survey(dict.fromkeys(CASES, ""), dict.fromkeys(CASES, ""))
    return made


def _pairs(evidence, count, head=1.0, twin=1.0, sd=0.15, **told):
    rng = np.random.default_rng(0)
    for pair in range(count):
        for case in CASES:
            took = {
                role: {"stages_s": {"build": 0.5 * factor * np.exp(rng.normal(0, sd)), "jit": 0.1}, **told}
                for role, factor in ((BASE, 1.0), (HEAD, head), (TWIN, twin))
            }
            if pair == 0:  # made once a side, and slow on the base alone: nothing of the build
                took[BASE]["stages_s"]["export"] = 30.0
            evidence.renewed(case, took)


@pytest.mark.parametrize(("head", "verdict"), [(1.0, Verdict.SAME), (4.0, Verdict.SLOWER), (0.25, Verdict.FASTER)])
def test_the_builds_of_eight_pairs_decide(evidence, head, verdict):
    assert evidence.pairs_wanted() == 8
    _pairs(evidence, 8, head=head)
    assert evidence.pairs_wanted() == 0
    decision = evidence.decisions()[CASES[0], BUILD]
    assert decision.verdict is verdict
    assert decision.pairs == 8
    assert "trtgate gate" not in decision.reason
    assert evidence.environment().verdict is Verdict.SAME


def test_builds_too_noisy_for_their_margin_are_extended_once_and_then_inconclusive(evidence):
    _pairs(evidence, 8, head=1.4, sd=0.4)
    assert evidence.pairs_wanted() == 12
    _pairs(evidence, 12, head=1.4, sd=0.4)
    decision = evidence.decisions()[CASES[0], BUILD]
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "over 20 pairs" in decision.reason


def test_identical_builds_that_differ_condemn_build_times(evidence):
    _pairs(evidence, 8, head=4.0, twin=4.0)
    assert evidence.decisions()[CASES[0], BUILD].code == "aa_differs"


@pytest.mark.parametrize(
    ("told", "verdict", "code"),
    [
        ({"from_cache": True}, Verdict.INCOMPARABLE, "from_cache"),
        ({"stages_s": {}}, Verdict.INVALID, "no_samples"),
    ],
)
def test_a_build_without_a_time_is_a_verdict(evidence, told, verdict, code):
    for case in CASES:
        evidence.renewed(case, dict.fromkeys((BASE, HEAD, TWIN), {"stages_s": {"build": 1.0}} | told))
    decisions = evidence.decisions()
    assert {(d.verdict, d.code) for d in decisions.values()} == {(verdict, code)}
    assert evidence.pairs_wanted() == 0
