"""GPU time of one inference, with the work already queued: what the hardware needs, launch gaps left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures import replay
from trtgate.case import Quantity

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from fixtures.recorder import Recorder
    from trtgate.case import Case


@pytest.mark.gpu
@pytest.mark.benchmark(timer=replay.device_time)
def test_device_time(case: Case, recorder: Recorder, benchmark: BenchmarkFixture) -> None:
    recorder.require_floors(recorder.time(case, Quantity.DEVICE, benchmark))
