import pytest
import torch
from torch import nn
from torch.nn import functional

from trtgate.errors import ExportError
from trtgate.precision import batch_norm, bf16
from trtgate.workloads import weights

PICTURES = (torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1)),)


class Small(nn.Module):
    """Everything that is rewritten, as modules and as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.gate = nn.Hardsigmoid()
        self.fc = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(image).mean((2, 3))
        return functional.hardswish(self.fc(hidden * self.gate(hidden))) + functional.hardsigmoid(hidden[:, :6])


def small(module: nn.Module) -> nn.Module:
    weights.fill(weights.frozen(module), 0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.copy_(weights.uniform(tuple(part.running_mean.shape), -1, 1, "mean"))
            part.running_var.copy_(weights.uniform(tuple(part.running_var.shape), 0.5, 2, "variance"))
    return module


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_function_stays_the_same(image):
    module = small(Small()).double()
    torch.testing.assert_close(bf16.rewrite(module, "small", (image,))(image), module(image), rtol=1e-12, atol=1e-12)


def test_nothing_that_the_parser_refuses_is_left():
    rewritten = bf16.rewrite(small(Small()), "small", PICTURES)
    refused = (nn.modules.batchnorm._BatchNorm, nn.Hardswish, nn.Hardsigmoid)
    assert not any(isinstance(part, refused) for part in rewritten.modules())
    functions = {node.target for node in rewritten.graph.nodes if node.op == "call_function"}
    assert not functions & {functional.hardswish, functional.hardsigmoid}
    assert not rewritten.training


def test_the_original_is_not_changed():
    module = small(Small())
    before = weights.digest(module)
    bf16.rewrite(module, "small", PICTURES)
    assert weights.digest(module) == before
    assert isinstance(module.conv[1], nn.BatchNorm2d)


def test_a_module_with_nothing_to_rewrite_is_returned_as_it_is():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert bf16.rewrite(module, "plain", PICTURES) is module


def test_functions_are_rewritten_where_a_module_is_traced():
    class Functions(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return functional.hardswish(value)

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Functions()).eval()
    rewritten = bf16.rewrite(module, "functions", PICTURES)
    assert functional.hardswish not in {node.target for node in rewritten.graph.nodes}


@pytest.mark.parametrize("ours", [(bf16.hardswish, functional.hardswish), (bf16.hardsigmoid, functional.hardsigmoid)])
def test_activations_are_torchs(ours):
    values = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    torch.testing.assert_close(ours[0](values), ours[1](values), rtol=1e-12, atol=1e-12)


def test_control_flow_on_values_is_refused_by_name():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.norm(image) if image.sum() > 0 else image

    with pytest.raises(ExportError, match=r"Nothing of 'branching' can be rewritten: torch.fx cannot trace it"):
        bf16.rewrite(Branching().eval(), "branching", PICTURES)


def test_a_batch_norm_without_a_layer_before_it_is_refused_by_name():
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)).eval()
    with pytest.raises(ExportError, match="BatchNorm '0' of 'alone' cannot be folded for bf16: it does not directly"):
        bf16.rewrite(module, "alone", PICTURES)


def test_a_transposed_convolution_is_folded_like_any_other():
    module = small(nn.Sequential(nn.ConvTranspose2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)))
    rewritten = bf16.rewrite(module, "decoder", PICTURES)
    assert not batch_norm.holds_batch_norm(rewritten)
    torch.testing.assert_close(rewritten(*PICTURES), module(*PICTURES), rtol=1e-5, atol=1e-5)


class ChoosesByType(nn.Module):
    """A stand-in for a tensor is no tensor, so that torch.fx follows the branch that is never taken."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.part(image) if torch.is_tensor(image) else -self.part(image)


@pytest.mark.parametrize("part", [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Hardswish()])
def test_another_function_is_refused_with_how_far_off_it_is(part):
    with pytest.raises(ExportError, match=r"'typed' is another function: the relative error of output 0 is 2, .*fp32"):
        bf16.rewrite(ChoosesByType(part).eval(), "typed", PICTURES)


def test_rewritten_activations_are_compared_too(monkeypatch):
    monkeypatch.setitem(bf16._BY_MODULE, nn.Hardswish, bf16.hardsigmoid)
    with pytest.raises(ExportError, match="is another function"):
        bf16.rewrite(nn.Sequential(nn.Hardswish()).eval(), "altered", PICTURES)
