from __future__ import annotations

import itertools

import pytest

from trtgate.measure.timing import BuildStopwatch


def test_stages_are_kept_in_order_and_add_up():
    stopwatch = BuildStopwatch(clock=itertools.count(step=1.0).__next__)
    with stopwatch.stage("export"):
        pass
    with stopwatch.stage("build"):
        pass
    with stopwatch.stage("export"):
        pass
    assert list(stopwatch.seconds.items()) == [("export", 2.0), ("build", 1.0)]


def test_a_stage_that_fails_is_timed_and_its_error_goes_on():
    stopwatch = BuildStopwatch(clock=itertools.count(step=1.0).__next__)
    with pytest.raises(RuntimeError, match="refused"), stopwatch.stage("build"):
        raise RuntimeError("refused")
    assert stopwatch.seconds == {"build": 1.0}
