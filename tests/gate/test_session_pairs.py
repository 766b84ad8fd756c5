"""What becomes of a gate's pairs: which builds are proven, and what failures cost. Members and crews are stand-ins."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from trtgate.case import Quantity
from trtgate.errors import BuildError
from trtgate.gate.crew import Taken
from trtgate.gate.evidence import Evidence
from trtgate.gate.member import Block, Member
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.plan import contests_of
from trtgate.gate.session import Session
from trtgate.gate.sides import SideError
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings
from trtgate.workloads import registry
from trtgate.workloads.known import Known

EAGER, ENGINE = "simple_cnn-eager-fp16-b8-graph", "simple_cnn-tensorrt_engine-fp16-b8-graph"


class _Proving:
    """Stands in for a member whose cases are built."""

    failures: ClassVar = {}

    def __init__(self, role, pair, proven):
        self.role, self.pair, self.generation, self.proven = role, pair, pair, proven
        facts = {"stages_s": {"build": 0.5}, "plan_bytes": 1000, "footprint_bytes": 5000, "from_cache": False}
        self.facts = {EAGER: facts, ENGINE: facts}

    def parity(self, case):
        self.proven.append((self.pair, self.role, case))
        output = dict.fromkeys(("yardstick", "bound", "max_abs", "cosine"), 1.0) | {"name": "y", "relative_l2": 1e-4}
        return {"passed": True, "reference": "float64", "batches": 1, "outputs": [output]}

    def census(self, case):
        self.proven.append((self.pair, self.role, case, "layers"))
        return {"facts": {"kernels": 3}, "reason": "", "unsupported": False}


def test_the_layers_of_three_builds_are_told(session):
    gate = session()
    gate.quantities = (Quantity.OPTIMISATION,)
    gate._evidence = Evidence(gate.policy, gate.quantities)
    gate._evidence.survey({EAGER: "", ENGINE: ""}, {EAGER: "", ENGINE: ""})
    seen = []
    for pair in range(5):
        members = {role: _Proving(role, pair, seen) for role in ("base", "head", "twin")}
        gate._prove([SimpleNamespace(pair=pair, members=members)], [EAGER, ENGINE])
    told = [one for one in seen if one[-1] == "layers"]
    assert sorted(told) == sorted(
        (pair, role, case, "layers")
        for role in ("base", "head")
        for pair, case in ((0, EAGER), (0, ENGINE), (1, ENGINE), (2, ENGINE))
    )


def test_every_build_is_proven_and_what_is_no_build_once(session):
    gate = session()
    gate._evidence.survey({EAGER: "", ENGINE: ""}, {EAGER: "", ENGINE: ""})
    proven = []
    for pair in range(3):
        members = {role: _Proving(role, pair, proven) for role in ("base", "head", "twin")}
        gate._prove([SimpleNamespace(pair=pair, members=members)], [EAGER, ENGINE])
    assert sorted(proven) == sorted(
        (pair, role, case)
        for role in ("base", "head")
        for pair, case in ((0, EAGER), (0, ENGINE), (1, ENGINE), (2, ENGINE))
    )
    assert [len(gate._evidence._stated._builds[case, "head"]) for case in (EAGER, ENGINE)] == [3, 3]


class _Crew:
    """Stands in for a crew of three processes that measure identical code; ``falls`` cannot start."""

    def __init__(self, pair, identity, falls, head):
        self.pair, self.generation, self.head = pair, pair, head
        self.members = {role: _Working(role, pair, identity, falls and role == "twin") for role in _ROLES}

    def take(self, contest, *_):
        wobble = 1 + 1e-4 * (self.pair % 3)
        scale = {"base": 1.0, "head": self.head[contest.case] * wobble, "twin": 1 / wobble}
        taken = Taken(contest, self.pair, blocks={role: [[1e-3 * factor] * 5] * 4 for role, factor in scale.items()})
        taken.turns = {role: [0, 1, 2, 3] for role in scale}
        return taken


_ROLES = ("base", "head", "twin")


class _Working(_Proving):
    pid, broken_tensorrt, workloads = None, "", Known(registry.OWN)

    def __init__(self, role, pair, identity, falls):
        super().__init__(role, pair, [])
        self.identity, self.falls = identity, falls

    def survey(self, cases):
        return dict.fromkeys(cases, "")

    def environment(self, family):
        return None


def _run(session, monkeypatch, h100, *, falls_at, eager=1.0, engine=1.0):
    gate = session(EAGER, ENGINE)
    gate.say = lambda _: None
    identity = h100.model_dump(mode="json")

    def crews(first, wanted):
        return [_Crew(first, identity, first >= falls_at, {EAGER: eager, ENGINE: engine})]

    def opened(member):
        if member.falls:
            raise SideError("The base side does not start: out of processes.", "Look.")

    monkeypatch.setattr(Session, "_crews", lambda _, first, wanted: crews(first, wanted))
    for name in ("build", "check_imports", "drop", "close", "discard"):
        monkeypatch.setattr(_Working, name, lambda *_: None, raising=False)
        monkeypatch.setattr(Member, name, lambda *_: None)
    monkeypatch.setattr(_Working, "open", opened, raising=False)
    monkeypatch.setattr(Member, "open", opened)
    return gate.run()


def test_a_pair_that_cannot_start_does_not_cost_what_was_seen_before(session, monkeypatch, h100):
    result = _run(session, monkeypatch, h100, falls_at=4)
    assert result.pairs == 4
    assert {decision.verdict for decision in result.decisions.values()} == {Verdict.INVALID}
    assert all("out of processes" in decision.reason for decision in result.decisions.values())
    assert result.outcome(JudgeSettings()) is GateOutcome.INVALID
    assert "out of processes" in result.environment.reason


def test_a_regression_that_was_found_stays_one_when_the_extension_cannot_start(session, monkeypatch, h100):
    result = _run(session, monkeypatch, h100, falls_at=8, eager=1.05, engine=1.1)  # the margin of latency is 5%
    assert result.pairs == 8
    verdicts = {case: decision.verdict for (case, _), decision in result.decisions.items()}
    assert verdicts == {EAGER: Verdict.INVALID, ENGINE: Verdict.SLOWER}
    assert result.outcome(JudgeSettings()) is GateOutcome.REGRESSION


def test_a_base_that_cannot_start_at_all_is_told_as_such(session, monkeypatch, h100):
    with pytest.raises(SideError, match="out of processes"):
        _run(session, monkeypatch, h100, falls_at=0)


@pytest.mark.parametrize("stage", ["warm_up", "sample"])
@pytest.mark.parametrize(
    ("broken", "verdict"),
    [
        ({"base", "twin"}, Verdict.NEW),
        ({"head"}, Verdict.MISSING),
        ({"base", "twin", "head"}, Verdict.INVALID),
        ({"twin"}, Verdict.INVALID),
    ],
)
def test_who_fails_first_is_not_taken_for_who_fails(session, monkeypatch, stage, broken, verdict):
    works = {"warm_up": True, "sample": Block((1e-3,) * 5, (), False)}

    def ask(name):
        def answer(member, build, *_):
            if name == stage and member.role in broken:
                member.failures[build] = BuildError(f"The {member.role} fails.", "Look.")
                return None
            return works[name]

        return answer

    for name in works:
        monkeypatch.setattr(Member, name, ask(name))
    for seed in range(6):  # whoever has the first turn
        gate = session()
        gate._rng.seed(seed)
        gate._evidence.survey({EAGER: ""}, {EAGER: ""})
        (crew,) = gate._crews(0, 1)
        gate._take(crew, *contests_of([EAGER], [Quantity.LATENCY]))
        assert gate._evidence.settled[EAGER, Quantity.LATENCY].verdict is verdict
