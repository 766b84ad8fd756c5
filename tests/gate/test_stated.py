"""A quantity that was asked for never vanishes: it is judged, missing, new, invalid, or named in a note."""

import pytest

from trtgate.case import Quantity
from trtgate.gate.plan import BASE, HEAD
from trtgate.gate.stated import Stated
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings
from trtgate.record import OutputError, Parity

ENGINE = "resnet18-tensorrt_engine-fp16-b8-graph"
PLAN, MEMORY, PARITY, OPTIMISATION = Quantity.PLAN, Quantity.MEMORY, Quantity.PARITY, Quantity.OPTIMISATION
LAYERS = {"facts": {"kernels": 3}, "reason": "", "unsupported": False}
BROKEN = {"facts": None, "reason": "The engine's JSON is truncated. Rebuild it.", "unsupported": False}
NO_ENGINE = {"facts": None, "reason": "eager keeps no list of layers. Inspect another.", "unsupported": True}
OLD_WORKER = {"facts": None, "reason": "eager keeps no list of layers. Inspect another."}


@pytest.fixture
def stated():
    return lambda *quantities: Stated(JudgeSettings(), quantities)


def _built(stated, role, plan=1000, footprint=5000, errors=(1e-4,)):
    outputs = tuple(
        OutputError(name=str(n), relative_l2=error, yardstick=1e-4, bound=1e-3, max_abs=1, cosine=1)
        for n, error in enumerate(errors)
    )
    facts = {"plan_bytes": plan, "footprint_bytes": footprint}
    stated.built(ENGINE, role, facts, Parity(passed=True, reference="float64", batches=1, outputs=outputs))


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        (1000, 1000, Verdict.SAME),
        (1000, 1100, Verdict.SLOWER),
        (1000, 900, Verdict.FASTER),
        (1000, None, Verdict.MISSING),
        (None, 1000, Verdict.NEW),
    ],
)
def test_the_size_of_a_plan_is_judged_wherever_either_side_states_it(stated, base, head, verdict):
    seen = stated(PLAN)
    _built(seen, BASE, plan=base)
    _built(seen, HEAD, plan=head)
    assert seen.decisions([ENGINE])[ENGINE, PLAN].verdict is verdict
    assert seen.notes([ENGINE]) == []


def test_what_neither_side_has_is_named_and_not_judged(stated):
    seen = stated(PLAN, MEMORY)
    _built(seen, BASE, plan=None)
    _built(seen, HEAD, plan=None)
    assert set(seen.decisions([ENGINE])) == {(ENGINE, MEMORY)}
    assert seen.notes([ENGINE]) == [f"Not judged, neither side has it: plan of {ENGINE}."]


def test_one_unlucky_build_does_not_decide(stated):
    seen = stated(PLAN, MEMORY)
    for unlucky in (1.0, 1.0, 1.3):
        _built(seen, BASE)
        _built(seen, HEAD, plan=1000 * unlucky, footprint=5000 * unlucky)
    assert {decision.verdict for decision in seen.decisions([ENGINE]).values()} == {Verdict.SAME}


@pytest.mark.parametrize(
    ("where", "neighbours", "verdict", "code"),
    [
        ("device_process", [], Verdict.SLOWER, "beyond_margin"),
        ("device_process", [4711], Verdict.SLOWER, "beyond_margin"),
        ("device", [], Verdict.SLOWER, "beyond_margin"),
        ("device", [4711], Verdict.INCOMPARABLE, "neighbours"),
    ],
)
def test_memory_of_the_whole_gpu_is_not_judged_where_a_stranger_was_on_it(stated, where, neighbours, verdict, code):
    seen = stated(MEMORY)
    for role, size in ((BASE, 2**26), (HEAD, 2**27)):
        footprint = {"where": where, "total_bytes": size, "watched": True}
        facts = {"footprint_bytes": size, "footprint": footprint, "neighbours": neighbours if role == HEAD else []}
        seen.built(ENGINE, role, facts, None)
    decision = seen.decisions([ENGINE])[ENGINE, MEMORY]
    assert (decision.verdict, decision.code) == (verdict, code)


@pytest.mark.parametrize(
    ("base", "head", "verdict"), [(5000, None, Verdict.MISSING), (None, 5000, Verdict.NEW), (None, None, None)]
)
def test_memory_that_a_side_does_not_state_is_not_passed_over(stated, base, head, verdict):
    seen = stated(MEMORY)
    _built(seen, BASE, footprint=base)
    _built(seen, HEAD, footprint=head)
    decision = seen.decisions([ENGINE]).get((ENGINE, MEMORY))
    assert (decision and decision.verdict) == verdict


def test_errors_far_below_their_bound_are_the_same_even_where_one_is_zero(stated):
    seen = stated(PARITY)
    _built(seen, BASE, errors=(0.0, 1e-4))
    _built(seen, HEAD, errors=(2.6e-7, 1e-4))
    assert seen.decisions([ENGINE])[ENGINE, PARITY].verdict is Verdict.SAME


def test_the_error_of_each_output_is_judged_and_an_output_cannot_get_lost(stated):
    seen = stated(PARITY)
    _built(seen, BASE, errors=(1e-4, 1e-4))
    _built(seen, HEAD, errors=(1e-4, 3e-4))
    assert seen.decisions([ENGINE])[ENGINE, PARITY].verdict is Verdict.SLOWER
    fewer = stated(PARITY)
    _built(fewer, BASE, errors=(1e-4, 1e-4))
    _built(fewer, HEAD)
    assert fewer.decisions([ENGINE])[ENGINE, PARITY].verdict is Verdict.SLOWER


@pytest.mark.parametrize(
    ("base", "head", "verdict", "words"),
    [
        (LAYERS, LAYERS, Verdict.SAME, "the same"),
        (LAYERS, {**LAYERS, "facts": {"kernels": 5}}, Verdict.SLOWER, "5 kernels"),
        (LAYERS, {**LAYERS, "facts": {}}, Verdict.SLOWER, "states kernels; the head's does not"),
        (LAYERS, BROKEN, Verdict.MISSING, "truncated"),
        (LAYERS, NO_ENGINE, Verdict.MISSING, "no list of layers"),
        (BROKEN, LAYERS, Verdict.NEW, "truncated"),
        (BROKEN, BROKEN, Verdict.INVALID, "truncated"),
        (OLD_WORKER, BROKEN, Verdict.INVALID, "truncated"),
    ],
)
def test_layers_that_a_side_cannot_tell_are_a_verdict_with_its_reason(stated, base, head, verdict, words):
    seen = stated(OPTIMISATION)
    for role, told in ((BASE, base), (HEAD, head)):
        _built(seen, role)
        seen.inspected(ENGINE, role, told)
    decision = seen.decisions([ENGINE])[ENGINE, OPTIMISATION]
    assert decision.verdict is verdict
    assert words in decision.reason


FEWER, MORE = {**LAYERS, "facts": {"kernels": 2}}, {**LAYERS, "facts": {"kernels": 5}}


@pytest.mark.parametrize(
    ("heads", "verdict", "words"),
    [
        ((MORE, MORE, LAYERS), Verdict.SLOWER, "in 2 of 3 pairs of builds"),
        ((MORE, LAYERS, LAYERS), Verdict.SAME, "in 2 of 3 pairs of builds"),
        ((BROKEN, MORE, MORE), Verdict.SLOWER, "5 kernels"),
        ((MORE, LAYERS, FEWER), Verdict.INCONCLUSIVE, "do not agree. Builds 1: slower. Builds 2: same."),
        ((MORE, LAYERS), Verdict.INCONCLUSIVE, "do not agree"),
        ((MORE, MORE), Verdict.SLOWER, "5 kernels"),
    ],
)
def test_a_change_of_layers_counts_where_most_builds_agree(stated, heads, verdict, words):
    seen = stated(OPTIMISATION)
    for told in heads:
        for role, one in ((BASE, LAYERS), (HEAD, told)):
            _built(seen, role)
            seen.inspected(ENGINE, role, one)
    decision = seen.decisions([ENGINE])[ENGINE, OPTIMISATION]
    assert decision.verdict is verdict
    assert words in decision.reason


@pytest.mark.parametrize("base", [NO_ENGINE, OLD_WORKER])
def test_a_backend_without_layers_on_either_side_is_a_note(stated, base):
    seen = stated(OPTIMISATION)
    for role, told in ((BASE, base), (HEAD, NO_ENGINE)):
        _built(seen, role)
        seen.inspected(ENGINE, role, told)
    assert seen.decisions([ENGINE]) == {}
    assert seen.notes([ENGINE]) == [f"Not judged, neither side has it: optimisation of {ENGINE}."]


def test_a_gate_that_ended_before_it_built_or_inspected_does_not_pass(stated):
    seen = stated(PLAN, OPTIMISATION)
    assert {d.verdict for d in seen.decisions([ENGINE]).values()} == {Verdict.INVALID}
    _built(seen, BASE)
    _built(seen, HEAD)
    assert seen.decisions([ENGINE])[ENGINE, OPTIMISATION].code == "not_inspected"
