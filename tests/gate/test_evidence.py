"""What a gate makes of what it saw: presence, failures, the A/A arm. Blocks are made up, decisions are the judge's."""

import numpy as np
import pytest

from trtgate.case import Quantity
from trtgate.errors import BuildError, EnvironmentInvalidError, OutOfDeviceMemoryError, StorageError
from trtgate.gate.crew import Taken
from trtgate.gate.evidence import Evidence
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.plan import BASE, HEAD, TWIN, contests_of
from trtgate.gate.result import GateResult
from trtgate.gate.sides import resolve
from trtgate.judge.verdict import Verdict
from trtgate.policy import Policy
from trtgate.record import EVENT_PAIR

CASES = ("resnet18-eager-fp16-b8-graph", "vit_b_16-eager-fp16-b8-graph")
DEVICE = Quantity.DEVICE


@pytest.fixture
def evidence(h100):
    made = Evidence(Policy(), (DEVICE, Quantity.PARITY))
    made.identify(BASE, h100.model_dump(mode="json"))
    made.identify(HEAD, h100.model_dump(mode="json"))
    return made


@pytest.fixture
def outcome_of(tmp_path):
    def outcome(evidence: Evidence) -> GateOutcome:
        side = resolve(str(tmp_path), BASE, tmp_path, tmp_path)
        decisions = evidence.decisions()
        identity = evidence.identities[BASE]
        result = GateResult(side, side, decisions, evidence.environment(), evidence.skipped, (), identity, 8, 120.0)
        told = result.sheet(evidence.policy.judge).to_json()
        judged = len({entry["case"] for entry in told["entries"]})
        assert told["elapsed_s"] == 120
        assert told["seconds_a_case"] == (120 / judged if judged else None)
        assert told["outcome"] == result.outcome(evidence.policy.judge)
        return result.outcome(evidence.policy.judge)

    return outcome


def _survey(evidence, base="", head=""):
    evidence.survey(dict.fromkeys(CASES, base), dict.fromkeys(CASES, head))
    for case in CASES:
        for role in (BASE, HEAD):
            _build(evidence, case, role)


def _build(evidence, case, role, error=1e-4, **changed):
    facts = {"stages_s": {"build": 0.5}, "plan_bytes": 1000, "footprint_bytes": 5000, "from_cache": False} | changed
    output = dict.fromkeys(("yardstick", "bound", "max_abs", "cosine"), 1.0) | {"name": "y", "relative_l2": error}
    parity = {"passed": True, "reference": "float64", "batches": 1, "outputs": [output]}
    return evidence.built(case, role, facts, parity)


def _take(evidence, case, pair, head=1.0, twin=1.0):
    (contest,) = contests_of([case], [DEVICE])
    taken = Taken(contest, pair)
    wobble = 1 + 1e-4 * (pair % 3)
    scale = {BASE: 1.0, HEAD: head * wobble, TWIN: twin / wobble}
    taken.blocks = {role: [[3e-4 * factor] * 5] * 4 for role, factor in scale.items()}
    taken.turns = {role: [0, 1, 2, 3] for role in scale}
    evidence.add(taken)


def _pairs(evidence, count, **factors):
    for pair in range(count):
        for case in CASES:
            _take(evidence, case, pair, **factors)


def test_identical_sides_pass_after_the_first_look(evidence, outcome_of):
    _survey(evidence)
    assert evidence.pairs_wanted() == 8
    _pairs(evidence, 8)
    assert evidence.pairs_wanted() == 0
    assert evidence.open_cases() == []
    assert outcome_of(evidence) is GateOutcome.PASS


def test_a_slower_head_is_a_regression(evidence, outcome_of):
    _survey(evidence)
    _pairs(evidence, 8, head=1.1)
    assert evidence.decisions()[CASES[0], DEVICE].verdict is Verdict.SLOWER
    assert outcome_of(evidence) is GateOutcome.REGRESSION


def test_identical_code_that_looks_different_makes_every_timing_invalid(evidence, outcome_of):
    _survey(evidence)
    _pairs(evidence, 8, head=1.1, twin=1.05)
    timed = {key: decision.verdict for key, decision in evidence.decisions().items() if key[1] is DEVICE}
    assert timed == dict.fromkeys(((case, DEVICE) for case in CASES), Verdict.INVALID)
    assert outcome_of(evidence) is GateOutcome.INVALID


def _noisy(evidence, case, quantity, sd):
    rng = np.random.default_rng(0)
    for pair in range(20):
        (contest,) = contests_of([case], [quantity])
        taken = Taken(contest, pair)
        taken.blocks = {role: [[3e-4 * float(np.exp(rng.normal(0, sd)))] * 5] * 4 for role in (BASE, HEAD, TWIN)}
        taken.turns = {role: [0, 1, 2, 3] for role in taken.blocks}
        evidence.add(taken)


@pytest.mark.parametrize(
    ("execution", "outcome"), [("graph", GateOutcome.INVALID), ("stream", GateOutcome.INCONCLUSIVE)]
)
def test_noise_of_a_noisy_kind_is_inconclusive_and_noise_of_a_steady_kind_the_machines(
    h100, outcome_of, execution, outcome
):
    cases = [f"resnet{n}-eager-fp16-b8-{execution}" for n in (18, 34, 50, 101)]
    seen = Evidence(Policy(), (DEVICE,))
    for role in (BASE, HEAD):
        seen.identify(role, h100.model_dump(mode="json"))
    seen.survey(dict.fromkeys(cases, ""), dict.fromkeys(cases, ""))
    for case in cases:
        _noisy(seen, case, DEVICE, sd=0.06)
    assert outcome_of(seen) is outcome


def test_what_vanished_stays_a_regression_on_a_disturbed_machine(evidence, outcome_of):
    evidence.survey({CASES[0]: "", CASES[1]: ""}, {CASES[0]: "", CASES[1]: "Unknown workload."})
    _build(evidence, CASES[0], BASE), _build(evidence, CASES[0], HEAD)
    for pair in range(8):
        _take(evidence, CASES[0], pair, twin=1.05)
    assert outcome_of(evidence) is GateOutcome.REGRESSION


def test_a_gate_that_stops_too_early_does_not_pass(evidence, outcome_of):
    _survey(evidence)
    _pairs(evidence, 3)
    assert outcome_of(evidence) is not GateOutcome.PASS


@pytest.mark.parametrize(
    ("problems", "verdict"),
    [
        ({HEAD: BuildError("It does not build.", "Look.")}, Verdict.MISSING),
        ({BASE: BuildError("It does not build.", "Look.")}, Verdict.NEW),
        ({BASE: BuildError("No.", "Look."), HEAD: BuildError("No.", "Look.")}, Verdict.INVALID),
        # Identical code that fails in one of two processes says nothing of the change.
        ({TWIN: BuildError("It does not build.", "Look.")}, Verdict.INVALID),
        # Fails for the base's code, whichever of its processes had its turn first.
        ({TWIN: BuildError("No.", "Look."), BASE: BuildError("No.", "Look.")}, Verdict.NEW),
        ({role: BuildError("No.", "Look.") for role in (TWIN, BASE, HEAD)}, Verdict.INVALID),
        # Three processes share one GPU: memory that ran out is no regression of either.
        ({HEAD: OutOfDeviceMemoryError("80 GB are full.", "Look.")}, Verdict.INVALID),
        # Both sides write to one disk.
        ({HEAD: StorageError("No space left.", "Look.")}, Verdict.INVALID),
    ],
)
def test_a_failure_is_judged_by_whose_it_is(evidence, outcome_of, problems, verdict):
    _survey(evidence)
    evidence.failed(CASES[1], problems)
    assert evidence.open_cases() == [CASES[0]]
    for pair in range(8):
        _take(evidence, CASES[0], pair)
    decisions = evidence.decisions()
    assert decisions[CASES[1], DEVICE].verdict is verdict
    assert decisions[CASES[0], DEVICE].verdict is Verdict.SAME
    assert outcome_of(evidence) is not GateOutcome.PASS


def test_no_case_on_either_side_compares_nothing(evidence, outcome_of):
    _survey(evidence, base="No GPU.", head="No GPU.")
    assert set(evidence.skipped) == set(CASES)
    assert outcome_of(evidence) is GateOutcome.NOTHING_COMPARED


@pytest.mark.parametrize(("owed", "outcome"), [((), GateOutcome.PASS), (CASES[1:], GateOutcome.INVALID)])
def test_a_case_that_nobody_can_run_is_no_pass_where_it_was_asked_for(evidence, outcome_of, owed, outcome):
    reasons = {CASES[0]: "", CASES[1]: "CUDA is absent."}
    assert evidence.survey(reasons, reasons, owed)
    for role in (BASE, HEAD):
        _build(evidence, CASES[0], role)
    for pair in range(8):
        _take(evidence, CASES[0], pair)
    assert outcome_of(evidence) is outcome
    assert (CASES[1] in evidence.skipped) is not bool(owed)
    if owed:
        decision = evidence.decisions()[CASES[1], DEVICE]
        assert (decision.verdict, decision.code) == (Verdict.INVALID, "skipped")
        assert "CUDA is absent." in decision.reason


def test_sides_on_different_machines_are_refused(evidence, h100):
    other = h100.model_copy(update={"gpu": "NVIDIA L4"})
    with pytest.raises(EnvironmentInvalidError, match="NVIDIA L4"):
        evidence.identify(HEAD, other.model_dump(mode="json"))


def test_a_different_stack_is_what_two_environments_compare_and_is_said(evidence, h100):
    newer = h100.model_copy(update={"tensorrt": "1.6.1.120"})
    evidence.identify(HEAD, newer.model_dump(mode="json"))
    assert evidence.notes == ["tensorrt: 1.4.0.76 -> 1.6.1.120"]


def test_device_times_that_two_sides_read_in_two_ways_are_not_compared(h100):
    evidence = Evidence(Policy(), (DEVICE, Quantity.LATENCY, Quantity.PARITY))
    evidence.identify(BASE, h100.model_copy(update={"device_clock": EVENT_PAIR}).model_dump(mode="json"))
    evidence.identify(HEAD, h100.model_dump(mode="json"))
    _survey(evidence)
    for case in CASES:
        assert evidence.decisions()[case, DEVICE].verdict is Verdict.INCOMPARABLE
        assert "event pair less an empty one" in evidence.decisions()[case, DEVICE].reason
        assert not evidence.is_open(case, DEVICE)
        assert evidence.is_open(case, Quantity.LATENCY)
    assert evidence.pairs_wanted() > 0


def test_what_was_seen_of_the_device_is_told(evidence):
    evidence.observe({"sm_clock_mhz": [1980, 1980], "neighbours": [4711]})
    evidence.observe({"sm_clock_mhz": [1755, 1980], "throttle_reasons": ["sw_power_cap"]})
    evidence.observe(None)  # a worker that died tells nothing
    assert evidence.remarks() == [
        "SM clock 1755 - 1980 MHz.",
        "The GPU's clocks were held back: sw_power_cap.",
        "Other processes were on the GPU: 4711.",
    ]


ENGINE, EAGER = "resnet18-tensorrt_engine-fp16-b8-graph", "resnet18-eager-fp16-b8-graph"


@pytest.mark.parametrize(
    ("case", "quantities", "builds"),
    [
        (ENGINE, (Quantity.PLAN, Quantity.PARITY), 5),
        (ENGINE, (Quantity.OPTIMISATION,), 5),
        (EAGER, (Quantity.MEMORY,), 5),
        (EAGER, (Quantity.PARITY,), 1),  # no build, no luck
    ],
)
def test_what_builds_state_of_themselves_is_judged_over_several_where_nothing_is_timed(case, quantities, builds):
    seen = Evidence(Policy(), quantities)
    seen.survey({case: ""}, {case: ""})
    for made in range(builds):
        assert seen.pairs_wanted() == builds - made
        assert seen.open_cases() == [case]
        for role in (BASE, HEAD):
            _build(seen, case, role)
    assert seen.pairs_wanted() == 0
    assert seen.open_cases() == []


@pytest.mark.parametrize(("renewed", "first", "enough"), [(1, 8, 5), (4, 8, 2), (1, 3, 3)])
def test_where_something_is_timed_its_pairs_bring_the_builds(renewed, first, enough):
    judge = {"first_pairs": first, "aa_pairs": 3}
    policy = Policy.model_validate({"gate": {"renew_build_every": renewed}, "judge": judge})
    seen = Evidence(policy, (DEVICE, Quantity.PLAN))
    seen.survey({ENGINE: ""}, {ENGINE: ""})
    assert seen.pairs_wanted() == first
    for pair in range(first):
        _take(seen, ENGINE, pair)
    for made in range(enough):
        assert seen.pairs_wanted() == enough - made
        for role in (BASE, HEAD):
            _build(seen, ENGINE, role)
    assert seen.pairs_wanted() == 0


def test_a_plan_that_vanishes_everywhere_fails_the_gate(h100, outcome_of):
    seen = Evidence(Policy(), (DEVICE, Quantity.PLAN))
    for role in (BASE, HEAD):
        seen.identify(role, h100.model_dump(mode="json"))
    seen.survey(dict.fromkeys(CASES, ""), dict.fromkeys(CASES, ""))
    for case in CASES:
        _build(seen, case, BASE)
        _build(seen, case, HEAD, plan_bytes=None)
    _pairs(seen, 8)
    assert seen.decisions()[CASES[0], Quantity.PLAN].verdict is Verdict.MISSING
    assert outcome_of(seen) is GateOutcome.REGRESSION
