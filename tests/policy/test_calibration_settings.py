"""The section [calibration] of trtgate.toml: what it may say, and what is refused."""

import pytest

from trtgate import policy
from trtgate.case import Precision
from trtgate.errors import PolicyError
from trtgate.policy.calibration import CalibrationSettings, Method, Placement
from trtgate.precision.calibration import CalibrationSpec


def load(tmp_path, text):
    path = tmp_path / "trtgate.toml"
    path.write_text("[calibration]\n" + text)
    return policy.load(path).calibration


def test_the_defaults_are_those_of_the_quantisers():
    assert CalibrationSpec.of(CalibrationSettings()) == CalibrationSpec()


def test_what_the_file_says_becomes_the_calibration(tmp_path):
    found = load(tmp_path, 'method = "entropy"\ncount = 128\nseed = 7\nplacement = "every"\n')
    spec = CalibrationSpec.of(found)
    assert spec == CalibrationSpec(128, 7, Method.ENTROPY, Placement.EVERY)
    assert spec.for_precision(Precision.INT8) == spec
    assert spec.for_precision(Precision.FP8) == CalibrationSpec(128, 7, Method.MAX, Placement.EVERY)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("cuont = 64", r"unknown key 'calibration.cuont'.*Did you mean 'count'\? Known keys there: count, method"),
        ("count = 0", "calibration.count is 0"),
        ("seed = -1", "calibration.seed is -1"),
        ('method = "percentile"', "calibration.method is 'percentile'.*Use one of: max, entropy"),
        ('placement = "all"', "calibration.placement is 'all'.*Use one of: tensorrt, every"),
    ],
)
def test_anything_else_is_refused(tmp_path, line, says):
    with pytest.raises(PolicyError, match=says):
        load(tmp_path, line)


def test_it_cannot_be_changed_once_read():
    with pytest.raises(ValueError, match="frozen"):
        CalibrationSettings().count = 3
