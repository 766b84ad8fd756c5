import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trtgate.errors import WorkloadError
from trtgate.policy import ParitySettings
from trtgate.workloads import conditioning, images, weights


class Deep(nn.Module):
    """A network whose output, with weights of a tenth the right size, is the same for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, stride=8, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.GELU()) for _ in range(8)))
        self.mix = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.body(self.stem(image)).flatten(2).transpose(1, 2)
        return self.head((tokens + self.mix(tokens, tokens, tokens, need_weights=False)[0]).mean(1))


def network() -> nn.Module:
    module = weights.frozen(Deep())
    weights.fill(module, 0)
    for block in module.body:
        block[0].weight.mul_(0.1)
    return module


def small(seed: str) -> torch.Tensor:
    return images.batch(4, seed)[..., ::2, ::2]


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return small("test")


@pytest.fixture(scope="module")
def conditioned(pictures: torch.Tensor) -> nn.Module:
    module = network()
    conditioning.apply(module, conditioning.condition(module, (pictures,), "deep"))
    return module


def test_a_network_that_ignores_its_input_is_refused(pictures):
    with pytest.raises(WorkloadError, match="hardly depends on the input: its spread is"):
        conditioning.require_spread(network(), (pictures,), "deep")


def test_conditioning_gives_the_outputs_a_spread_on_other_inputs_too(conditioned):
    fresh = small("fresh")
    conditioning.require_spread(conditioned, (fresh,), "deep")
    assert conditioning.spread(conditioned(fresh)) > 0.3


def test_conditioning_brings_every_layer_near_unit_variance(conditioned, pictures):
    seen = []
    handles = [
        layer.register_forward_hook(lambda _module, _arguments, output: seen.append(float(output.std())))
        for layer in conditioned.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
        and type(layer) is not nn.modules.linear.NonDynamicallyQuantizableLinear
    ]
    conditioned(pictures)
    for handle in handles:
        handle.remove()
    assert len(seen) == 10
    assert all(0.5 < deviation < 2 for deviation in seen)  # scales are powers of two


def test_conditioning_leaves_the_module_as_it_was_and_is_repeatable(pictures):
    module = network()
    before = weights.digest(module)
    first = conditioning.condition(module, (pictures,), "deep")
    assert weights.digest(module) == before
    second = conditioning.condition(module, (pictures,), "deep")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_rounding_of_the_inputs_does_not_reach_the_weights(pictures):
    """What differs between CPUs is the last bit of float64; a change of 1e-13 stands in for it."""
    module = network().double()
    first = conditioning.condition(module.float(), (pictures.double(),), "deep")
    second = conditioning.condition(module.float(), (pictures.double() * (1 + 1e-13),), "deep")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_scales_are_powers_of_two_and_statistics_have_eight_bits(pictures):
    found = conditioning.condition(network(), (pictures,), "deep")
    for key, value in found.items():
        mantissa, _ = torch.frexp(value)
        if key.endswith("*"):
            assert torch.equal(mantissa, torch.full_like(mantissa, 0.5))
        else:
            assert torch.equal(mantissa * 256, (mantissa * 256).round())


def test_weak_channels_are_not_blown_up(pictures):
    module = network()
    module.stem[0].weight[0].mul_(1e-3)
    conditioning.apply(module, conditioning.condition(module, (pictures,), "deep"))
    strong = module.stem[1](module.stem[0](pictures))
    assert float(strong[:, 0].std()) < 0.01 * float(strong[:, 1:].std())


def test_a_constant_layer_is_named(pictures):
    module = network()
    module.body[3][0].weight.zero_()
    with pytest.raises(WorkloadError, match=r"Layer 'body\.3\.0' of 'deep' has the standard deviation 0\.0"):
        conditioning.condition(module, (pictures,), "deep")


def test_an_activation_beyond_float16_is_named(pictures):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(negative_slope=1e5))
    with pytest.raises(WorkloadError, match=r"Layer '1' of 'steep' reaches \S+, beyond 4096"):
        conditioning.condition(weights.frozen(module), (pictures,), "steep")


def test_nan_is_refused(pictures):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    module[0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(WorkloadError, match="nan"):
        conditioning.condition(module.eval(), (pictures,), "nan")
    with pytest.raises(WorkloadError, match="Output 0 of 'nan' is not finite"):
        conditioning.require_spread(module, (pictures,), "nan")


def test_the_required_spread_is_the_policys():
    assert ParitySettings().min_logit_spread == conditioning.MIN_SPREAD


@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 100))
def test_spread_has_no_unit(scale, seed):
    outputs = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
    assert conditioning.spread(outputs * scale) == pytest.approx(conditioning.spread(outputs), rel=1e-5)


def test_spread_of_known_outputs():
    assert conditioning.spread(torch.ones(4, 3)) == 0
    assert conditioning.spread(torch.zeros(4, 3)) == 0
    assert conditioning.spread(torch.tensor([[1.0], [-1.0]])) == 1
    # Mean 3, deviation 1: 1 / sqrt(10).
    assert conditioning.spread(torch.tensor([[2.0], [4.0]])) == pytest.approx(10**-0.5)
