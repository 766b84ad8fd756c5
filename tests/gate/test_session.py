"""Which processes and builds a gate takes its pairs from; nothing is started here."""

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tree import write_tree

from trtgate.case import Quantity
from trtgate.errors import NothingComparedError
from trtgate.gate.crew import Taken
from trtgate.gate.evidence import Evidence
from trtgate.gate.member import Member
from trtgate.gate.plan import contests_of
from trtgate.gate.samples import SampleFile
from trtgate.gate.session import Session
from trtgate.gate.sides import Side, SideError
from trtgate.judge.verdict import Verdict
from trtgate.workloads import registry
from trtgate.workloads.known import Known


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


def test_whoever_once_worked_for_the_gate_is_no_stranger_on_its_gpu(session, monkeypatch):
    gate = session()
    pids = iter(range(100, 200))
    asked = []
    monkeypatch.setattr(Member, "pid", property(lambda _: next(pids)))  # as if each were renewed again and again
    for name in ("build", "drop"):
        monkeypatch.setattr(Member, name, lambda *_: None)
    monkeypatch.setattr(Member, "environment", lambda _, family: asked.append(set(family)))
    monkeypatch.setattr(Evidence, "open_cases", lambda _: ["simple_cnn-eager-fp32-b1-stream"])
    monkeypatch.setattr(Session, "_prove", lambda *_: None)
    gate.quantities = (Quantity.PLAN,)
    gate._measure(gate._crews(0, 1))
    assert asked == [{os.getpid(), *range(100, 106)}]
    assert gate._without_family({"footprint_bytes": 1, "neighbours": [103, 4711, os.getpid()]})["neighbours"] == [4711]
    assert gate._without_family({"footprint_bytes": 1})["neighbours"] == []  # of an older worker
    (crew,) = gate._crews(1, 2)
    crew.members["base"].facts["case"] = {"gpu_ids": [9001]}  # what NVML calls it from a container
    gate._meet([crew])
    assert gate._without_family({"neighbours": [9001, 4711]})["neighbours"] == [4711]


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
        self.workloads = Known(registry.OWN)

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
    gate = session(EAGER, ENGINE)
    gate.asked = frozenset(asked)
    identity = h100.model_dump(mode="json")
    members = {role: _Surveyed(role, identity, broken if role == "head" else "") for role in ("base", "head", "twin")}
    gate._survey(SimpleNamespace(members=members))
    found = gate._evidence.settled.get((ENGINE, Quantity.LATENCY))
    assert (found.verdict if found else None) is verdict
    assert (ENGINE in gate._evidence.skipped) is (verdict is None)
    assert gate._evidence.open_cases() == [EAGER]


def test_where_nothing_runs_nothing_is_compared_whoever_asked_for_it(session, h100):
    gate = session(ENGINE)
    identity = h100.model_dump(mode="json")
    members = {role: _Surveyed(role, identity, "") for role in ("base", "head", "twin")}
    for asked in (frozenset(), frozenset({ENGINE})):
        gate.asked = asked
        with pytest.raises(NothingComparedError, match="No TensorRT"):
            gate._survey(SimpleNamespace(members=members))


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


def test_a_side_tells_which_workloads_its_code_registers(session, tmp_path):
    side = Side("base", "tree", Path(sys.executable), write_tree(tmp_path / "tree", {"small": "layers=1"}))
    member = Member("base", side, 0, 0, replace(session().station, timeout_s=100.0))
    assert not member.workloads.complete
    member.open()
    try:
        assert member.workloads.project == ("small",)
        assert member.workloads.tokens == {**registry.OWN, "small": 0}  # made by a function: nobody can say
        assert member.workloads.complete
    finally:
        member.close()
