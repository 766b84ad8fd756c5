"""Which processes and builds a gate takes its pairs from; nothing is started here."""

import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from trtgate.case import Quantity
from trtgate.errors import BuildError, NothingComparedError
from trtgate.gate.crew import Taken
from trtgate.gate.evidence import Evidence
from trtgate.gate.member import Block, Member
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.plan import contests_of
from trtgate.gate.samples import SampleFile
from trtgate.gate.session import Session
from trtgate.gate.sides import Side, SideError
from trtgate.gate.station import Station
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings, Policy


@pytest.fixture
def session(tmp_path):
    side = Side("base", "here", Path(sys.executable), tmp_path)
    station = Station("cpu", tmp_path / "cache", tmp_path, tmp_path, {}, {}, {}, 1.0)

    def made(**settings):
        policy = Policy.model_validate({"gate": settings})
        return Session(side, side, policy, (Quantity.LATENCY,), (), station, print)

    return made


def _generations(session, wanted):
    batches = []
    pairs = 0
    while pairs < wanted:
        batches.append([crew.generation for crew in session._crews(pairs, wanted - pairs)])
        pairs += len(batches[-1])
    return batches


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)


def test_every_pair_has_engine_builds_of_its_own(session, many_cores):
    assert _generations(session(crews_at_once=3), 8) == [[0], [1, 2, 3], [4, 5, 6], [7]]


@pytest.mark.parametrize(("device", "cores", "together"), [("cpu", 2, 1), ("cpu", 8, 2), ("cuda", 2, 4)])
def test_on_a_cpu_no_more_processes_start_together_than_have_a_core(session, monkeypatch, device, cores, together):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    gate = session()
    gate.station = replace(gate.station, device=device)
    assert len(gate._crews(1, 7)) == together


def test_pairs_that_share_builds_do_so_because_the_policy_says_so_and_the_report_tells(session, many_cores):
    shared = session(renew_build_every=4)
    assert _generations(shared, 8) == [[0], [0, 0, 0], [1], [1, 1, 1]]
    assert shared._evidence.remarks() == ["4 pairs share each engine build: the luck of a build may decide."]
    assert session()._evidence.remarks() == []


@pytest.mark.parametrize(("quantity", "together"), [(Quantity.MEMORY, 1), (Quantity.PLAN, 3)])
def test_nobody_builds_beside_a_build_whose_memory_is_judged(session, monkeypatch, quantity, together):
    gate = session()
    gate.quantities = (quantity,)
    everyone = threading.Barrier(together, timeout=20)  # broken unless as many builds meet as are to be made at once
    building, most = set(), []

    def build(member, builds):
        building.add(member.role)
        everyone.wait()
        most.append(len(building))
        building.discard(member.role)

    monkeypatch.setattr(Member, "build", build)
    monkeypatch.setattr(Member, "drop", lambda *_: None)
    monkeypatch.setattr(Member, "environment", lambda *_: None)
    monkeypatch.setattr(Evidence, "observe", lambda *_: None)
    monkeypatch.setattr(Evidence, "open_cases", lambda _: ["simple_cnn-eager-fp32-b1-stream"])
    monkeypatch.setattr(Session, "_prove", lambda *_: None)
    gate._measure(gate._crews(0, 1))
    assert len(most) == 3
    assert max(most) <= together


def test_builds_are_renewed_but_exports_are_a_sides_own(session):
    station = session().station
    first, second = (Member("base", session().base, pair, pair, station) for pair in range(2))
    (first._cache() / "onnx" / "model.onnx").write_text("exported")
    (first._cache() / "plans").mkdir()
    assert (second._cache() / "onnx" / "model.onnx").read_text() == "exported"
    assert not (second._cache() / "plans").exists()
    first.discard()
    assert (second._cache() / "onnx" / "model.onnx").read_text() == "exported"
    assert not (station.cache / "base" / "build0").exists()
    twin = Member("twin", session().base, 0, 0, station)  # the same code: its exports, and a build of its own
    assert (twin._cache() / "onnx" / "model.onnx").read_text() == "exported"
    (first._cache() / "plans").mkdir()
    assert not (twin._cache() / "plans").exists()
    head = Side("head", "there", Path(sys.executable), session().base.tree)
    other = Member("head", head, 0, 0, station)
    assert not (other._cache() / "onnx" / "model.onnx").exists()


def test_what_proves_a_case_is_among_what_the_builds_of_a_side_share():
    from trtgate.gate.member import _SHARED_BY_BUILDS
    from trtgate.measure.kept_reference import FOLDER

    assert FOLDER in _SHARED_BY_BUILDS


def test_a_side_whose_interpreter_cannot_be_run_is_no_side(tmp_path, session):
    (tmp_path / "python").write_text("no program, and not executable")
    side = Side("base", "env:python", tmp_path / "python", None)
    with pytest.raises(SideError, match=r"base side \(env:python\) does not start: .*python cannot be run"):
        Member("base", side, 0, 0, session().station).open()


EAGER, ENGINE = "simple_cnn-eager-fp16-b8-graph", "simple_cnn-tensorrt_engine-fp16-b8-graph"


class _Surveyed:
    """Stands in for a member: every engine fails."""

    def __init__(self, role, identity, broken):
        self.role, self.identity, self.broken_tensorrt = role, identity, broken

    def open(self):
        pass

    def survey(self, cases):
        return {case: "No TensorRT." if case == ENGINE else "" for case in cases}


@pytest.mark.parametrize(
    ("asked", "broken", "verdict"),
    [((), "", None), ((), "libnvinfer.so.11 is missing.", Verdict.INVALID), ((ENGINE,), "", Verdict.INVALID)],
)
def test_engines_that_cannot_run_may_be_skipped_unless_tensorrt_is_here_or_they_were_named(
    session, h100, asked, broken, verdict
):
    gate = session()
    gate.cases, gate.asked = (EAGER, ENGINE), frozenset(asked)
    identity = h100.model_dump(mode="json")
    members = {role: _Surveyed(role, identity, broken if role == "head" else "") for role in ("base", "head", "twin")}
    gate._survey(SimpleNamespace(members=members))
    found = gate._evidence.settled.get((ENGINE, Quantity.LATENCY))
    assert (found.verdict if found else None) is verdict
    assert (ENGINE in gate._evidence.skipped) is (verdict is None)
    assert gate._evidence.open_cases() == [EAGER]


def test_where_nothing_runs_nothing_is_compared_whoever_asked_for_it(session, h100):
    gate = session()
    gate.cases = (ENGINE,)
    identity = h100.model_dump(mode="json")
    members = {role: _Surveyed(role, identity, "") for role in ("base", "head", "twin")}
    for asked in (frozenset(), frozenset({ENGINE})):
        gate.asked = asked
        with pytest.raises(NothingComparedError, match="No TensorRT"):
            gate._survey(SimpleNamespace(members=members))


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
    pid, broken_tensorrt = None, ""

    def __init__(self, role, pair, identity, falls):
        super().__init__(role, pair, [])
        self.identity, self.falls = identity, falls

    def survey(self, cases):
        return dict.fromkeys(cases, "")

    def environment(self, family):
        return None


def _run(session, monkeypatch, h100, *, falls_at, eager=1.0, engine=1.0):
    gate = session()
    gate.cases, gate.say = (EAGER, ENGINE), lambda _: None
    identity = h100.model_dump(mode="json")

    def crews(first, wanted):
        return [_Crew(first, identity, first >= falls_at, {EAGER: eager, ENGINE: engine})]

    def opened(member):
        if member.falls:
            raise SideError("The base side does not start: out of processes.", "Look.")

    monkeypatch.setattr(Session, "_crews", lambda _, first, wanted: crews(first, wanted))
    for name in ("build", "drop", "close", "discard"):
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


def test_samples_that_cannot_be_kept_do_not_end_the_gate(session, tmp_path):
    gate = session()
    case = "simple_cnn-eager-fp32-b1-stream"
    (contest,) = contests_of([case], [Quantity.LATENCY])
    taken = Taken(contest, 0, blocks={role: [[1e-3]] * 2 for role in ("base", "head", "twin")})
    taken.turns = {role: [0, 1] for role in taken.blocks}
    gate._evidence.survey({case: ""}, {case: ""})
    (tmp_path / "samples").symlink_to("/dev/full")
    gate.samples = SampleFile.added_to(tmp_path / "samples")
    gate._take(SimpleNamespace(pair=0, take=lambda *_: taken), contest)
    assert "No space left" in str(gate.samples_lost)
    assert gate._evidence._ratios["head"][case, Quantity.LATENCY] == [0.0]
    assert any("No space left" in remark for remark in gate._evidence.remarks())
