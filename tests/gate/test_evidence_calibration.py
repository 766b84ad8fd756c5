"""Units of a busy kernel from a line that is measured, not assumed."""

import pytest

from trtgate.errors import MeasurementError
from trtgate.gate.calibration import calibrate

WANTED = {"+2%": 0.02, "+3%": 0.03, "+5%": 0.05}


@pytest.mark.parametrize("slope", [1e-5, 1e-9])
def test_a_launch_that_costs_something_by_itself_is_allowed_for(slope):
    launch = 0.008
    units = calibrate("x", lambda count: launch + slope * count, WANTED, "+3%")
    assert {name: launch + slope * count for name, count in units.items()} == pytest.approx(WANTED, rel=0.01)


def test_work_that_lengthens_nothing_and_noise_are_refused():
    with pytest.raises(MeasurementError, match="does not lengthen x"):
        calibrate("x", lambda count: 0.0, WANTED, "+3%")
    with pytest.raises(MeasurementError, match="too noisy"):
        calibrate("x", lambda count: 0.3 if count >= 2000 else 0.4, WANTED, "+3%")
