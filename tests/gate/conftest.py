"""A gate that is set up and starts nothing."""

import sys
from pathlib import Path

import pytest

from trtgate.case import Quantity
from trtgate.gate.plan import Wanted
from trtgate.gate.session import Session
from trtgate.gate.sides import Side
from trtgate.gate.station import Station
from trtgate.policy import Policy


@pytest.fixture
def session(tmp_path):
    side = Side("base", "here", Path(sys.executable), tmp_path)
    station = Station("cpu", tmp_path / "cache", tmp_path, tmp_path, {}, {}, {}, 1.0)

    def made(*cases, **settings):
        policy = Policy.model_validate({"gate": settings})
        wanted = Wanted(policy.gate, policy, "cpu", cases)
        return Session(side, side, policy, (Quantity.LATENCY,), wanted, station, print)

    return made
