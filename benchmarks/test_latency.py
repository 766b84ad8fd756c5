"""What a caller waits for one inference: host clock round the call and its synchronisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures import replay
from trtgate.case import Quantity

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from fixtures.recorder import Recorder
    from trtgate.case import Case


@pytest.mark.benchmark(timer=replay.latency)
def test_latency(case: Case, recorder: Recorder, benchmark: BenchmarkFixture) -> None:
    recorder.require_floors(recorder.time(case, Quantity.LATENCY, benchmark))
