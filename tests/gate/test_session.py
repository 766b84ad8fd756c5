"""Which processes and builds a gate takes its pairs from; nothing is started here."""

import sys
from pathlib import Path

import pytest

from trtgate.case import Quantity
from trtgate.gate.member import Member, Station
from trtgate.gate.session import Session
from trtgate.gate.sides import Side
from trtgate.policy import Policy


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


def test_every_pair_has_engine_builds_of_its_own(session):
    assert _generations(session(crews_at_once=3), 8) == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_pairs_that_share_builds_do_so_because_the_policy_says_so_and_the_report_tells(session):
    shared = session(renew_build_every=4)
    assert _generations(shared, 8) == [[0], [0, 0], [0], [1], [1, 1], [1]]
    assert shared._evidence.remarks() == ["4 pairs share each engine build: the luck of a build may decide."]
    assert session()._evidence.remarks() == []


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
    other = Member("head", session().base, 0, 0, station)
    assert not (other._cache() / "onnx" / "model.onnx").exists()
