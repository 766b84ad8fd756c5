"""Floors of a policy on workloads that do not exist, or on shapes that a workload never has."""

from pathlib import Path

import pytest

from trtgate.errors import PolicyError
from trtgate.policy import Floor, Policy, load
from trtgate.workloads import floors

ROOT = Path(__file__).parents[2]


def policy(workload, shape):
    floor = {"gpu": "*", "quantity": "device", "baseline": "eager", "backend": "inductor", "precision": "fp16"}
    return Policy(floor=(Floor(**floor, workload=workload, shape=shape, at_least=1, reason="x"),))


@pytest.mark.parametrize(
    ("workload", "shape", "says"),
    [
        ("resnet81", "b1", r"\[\[floor\]\] number 1 .*Unknown workload 'resnet81'\. Did you mean 'resnet18'\?"),
        ("transformer", "b8", r"shape 'b8', and transformer has a sequence length\. Write its shape as 'b8s128'"),
        ("resnet18", "b8s128", r"'b8s128', and resnet18 has no sequence length\. Write its shape as 'b8'"),
    ],
)
def test_a_floor_that_no_case_can_meet_is_refused(workload, shape, says):
    with pytest.raises(PolicyError, match=says):
        floors.require_known(policy(workload, shape))


@pytest.mark.parametrize(("workload", "shape"), [("resnet18", "b8"), ("transformer", "b1s512")])
def test_a_floor_on_a_case_that_exists_is_kept(workload, shape):
    floors.require_known(policy(workload, shape))


def test_the_floors_of_this_repository_are_of_cases_that_exist():
    held = load(ROOT / "trtgate.toml")
    assert held.floor
    floors.require_known(held)
