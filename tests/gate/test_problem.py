"""Sides that compute different problems are told apart by shapes, and older workers, which tell none, are not."""

import pytest
import torch

from trtgate.gate.problem import apart, shapes_of

SIZE = 8


class Named:
    input_names, output_names = ("ids", "mask"), ("logits",)


def test_shapes_are_told_by_name():
    tensors = (torch.zeros(2, 8), torch.zeros(2, 8)), (torch.zeros(2, 3), torch.zeros(()))
    expected = {"input 'ids'": [2, 8], "input 'mask'": [2, 8], "output 'logits'": [2, 3], "output '1'": []}
    assert shapes_of(Named, *tensors) == expected


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({"input 'x'": [4, SIZE]}, ""),
        ({"input 'x'": [2, SIZE]}, f"its input 'x' is (2, {SIZE}), the base's (4, {SIZE})"),
        ({}, f"its input 'x' is absent, the base's (4, {SIZE})"),
        ({"input 'x'": [4, SIZE], "output 'z'": [4]}, "its output 'z' is (4,), the base's absent"),
        (None, ""),
    ],
)
def test_the_first_difference_is_named(head, told):
    base = {"shapes": {"input 'x'": [4, SIZE]}}
    assert apart(base, {} if head is None else {"shapes": head}).removeprefix("it computes something else: ") == told
