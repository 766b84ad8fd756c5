"""A rewritten module that computes something else is found, and one that only rounds otherwise is not."""

import math

import pytest
import torch
from torch import nn

from trtgate.errors import ExportError
from trtgate.precision import same_function

INPUTS = (torch.linspace(-2, 2, 12).reshape(3, 4),)


class Returns(nn.Module):
    """A module of one line."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, value):
        return self.compute(value)


def require(right, made):
    same_function.require(Returns(right), Returns(made), INPUTS, "model")


def test_rounding_is_no_difference():
    require(lambda x: (x, x * 2), lambda x: (x * (1 + 1e-6), x * 2))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda x: (x, x * 2.2), r"the relative error of output 1 is 0\.1, and rounding explains up to 1e-04"),
        (lambda x: (x, x * 2 + math.nan), "the relative error of output 1 is nan"),
        (lambda x: (x,), r"it returns float32 \(3, 4\) and not float32 \(3, 4\), float32 \(3, 4\)"),
        (lambda x: (x, x[:1]), r"it returns float32 \(3, 4\), float32 \(1, 4\) and not"),
        (lambda x: (x, x.double() * 2), r"it returns float32 \(3, 4\), float64 \(3, 4\) and not"),
        (lambda x: None, "it returns no tensor and not"),
    ],
)
def test_every_output_is_compared(made, told):
    with pytest.raises(ExportError, match=f"What torch.fx makes of 'model' is another function: {told}.*fp32"):
        require(lambda x: (x, x * 2), made)


def test_the_same_infinities_and_the_same_zeros_are_no_difference():
    mask = torch.tensor([0.0, -math.inf, 1.0, 2.0])
    require(lambda x: (x + mask, x * 0), lambda x: (x + mask, x * 0))
    with pytest.raises(ExportError, match="output 0 is inf"):
        require(lambda x: x * 0, lambda x: x * 0 + 1e-9)
    with pytest.raises(ExportError, match="output 0 is inf"):
        require(lambda x: x + mask, lambda x: x - mask)


def test_whole_numbers_and_nested_results_are_compared():
    require(lambda x: {"top": [x.argmax(1)]}, lambda x: {"top": [x.argmax(1)]})
    with pytest.raises(ExportError, match="output 0"):
        require(lambda x: {"top": [x.argmax(1)]}, lambda x: {"top": [x.argmin(1)]})


def test_a_module_that_writes_into_its_input_is_compared_on_what_it_was_given():
    before = INPUTS[0].clone()
    require(lambda x: x.mul_(2), lambda x: x * 2)
    assert torch.equal(INPUTS[0], before)


def test_a_module_that_cannot_run_is_not_shown_to_be_the_same():
    def fails(value):
        raise KeyError(str(value.dtype))

    with pytest.raises(ExportError, match=r"'model' cannot be compared with the module: KeyError: 'torch.float32'"):
        require(lambda x: x, fails)
