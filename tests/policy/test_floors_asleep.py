"""Floors of another machine: a run says so, since missing no floor proves nothing where there was none to miss."""

from pathlib import Path

import pytest

from trtgate.policy import Policy, load

OURS = load(Path(__file__).parents[2] / "trtgate.toml")
SPEEDUPS = f"{len(OURS.floor)} speedup floors name another GPU or runtime; none applied here."
LAYERS = f"{len(OURS.optimisation.layer_floor)} floors on nodes per layer name another runtime; none applied here."


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ()),
        ({"tensorrt": "1.6.1.120"}, (SPEEDUPS,)),
        ({"gpu": "NVIDIA L4"}, (SPEEDUPS,)),
        ({"gpu": None, "tensorrt": "1.6.1.120"}, (SPEEDUPS,)),
        ({"tensorrt": "1.7.0.1"}, (SPEEDUPS, LAYERS)),
        ({"tensorrt_flavour": None, "tensorrt": None}, (SPEEDUPS,)),  # there are no layers without TensorRT
    ],
)
def test_floors_of_another_machine_are_told_by_kind(h100, changed, told):
    assert OURS.floors_asleep(h100.model_copy(update=changed)) == told


def test_one_floor_of_this_machine_is_enough(h100):
    both = OURS.floor[:1] + tuple(floor.model_copy(update={"gpu": "NVIDIA L4"}) for floor in OURS.floor[1:])
    assert Policy(floor=both).floors_asleep(h100) == ()
    assert Policy(floor=both[1:2]).floors_asleep(h100) == (
        "1 speedup floor names another GPU or runtime; none applied here.",
    )
    assert Policy(floor=both[1:]).floors_asleep(h100) != ()
    assert Policy().floors_asleep(h100) == ()
