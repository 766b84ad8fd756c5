"""Units of a busy kernel from a line that is measured, not assumed, and checked by what they reach."""

import pytest

from trtgate.errors import MeasurementError
from trtgate.gate.calibration import calibrate

WANTED = {"+3%": 0.03, "+2%": 0.02}


def line(launch, slope, probes=None):
    def lengthening(count):
        if probes is not None:
            probes.append(count)
        return launch + slope * count

    return lengthening


@pytest.mark.parametrize("slope", [1e-5, 1e-9])
@pytest.mark.parametrize("guess", [0.01, 1.0, 100.0])
def test_a_launch_that_costs_something_by_itself_is_allowed_for(slope, guess):
    probes = []
    found = calibrate("x", line(0.008, slope, probes), WANTED, round(guess * 0.25 / slope), off=0.1)
    assert {name: 0.008 + slope * count for name, count in found.units.items()} == pytest.approx(WANTED, rel=0.1)
    assert found.refused == {}
    assert len(probes) <= (4 if guess == 1.0 else 6)  # each takes a GPU seconds


def test_what_is_reached_is_measured_and_an_arm_that_misses_is_refused():
    """A case of a few launches: one more is already too long."""
    found = calibrate("x", line(0.025, 1e-6), WANTED, 225_000, off=0.1)
    assert found.units.keys() == {"+3%"}
    assert found.refused == {"+2%": pytest.approx(0.025, rel=0.01)}


def test_an_answer_that_is_no_line_is_seen():
    def stairs(count):  # the clock resolves steps of 1% only
        return round(2e-6 * count, 2)

    found = calibrate("x", stairs, {"+2.5%": 0.025, "+3%": 0.03}, 125_000, off=0.1)
    assert found.units.keys() == {"+3%"}
    assert found.refused.keys() == {"+2.5%"}


def test_work_that_lengthens_nothing_and_noise_are_refused():
    with pytest.raises(MeasurementError, match="does not lengthen x"):
        calibrate("x", lambda count: 0.0, WANTED, 2000, off=0.1)
    with pytest.raises(MeasurementError, match="too noisy"):
        calibrate("x", lambda count: 0.3 if count >= 2000 else 0.4, WANTED, 2000, off=0.1)
