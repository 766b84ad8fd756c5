import numpy as np
import pytest
import torch
from torch import nn

from trtgate.workloads import weights


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def test_uniform_values_are_these_bits_on_every_machine():
    values = weights.uniform((3,), -0.5, 0.5, 7, "layer", "weight")
    # PCG64 seeded with the first 16 bytes of SHA-256("7/layer/weight"); 24 random bits a value.
    assert values.view(torch.int32).tolist() == [-1106708072, -1123283440, 1056819124]


def test_streams_of_different_names_differ():
    first, second = weights.uniform((1000,), -1, 1, 1, "a"), weights.uniform((1000,), -1, 1, 1, "b")
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_fill_depends_on_the_seed_alone_and_leaves_torchs_generator_alone():
    torch.manual_seed(0)
    one = network()
    torch.manual_seed(1)
    other = network()
    before = torch.random.get_rng_state()
    weights.fill(one, 3)
    weights.fill(other, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights.digest(one) == weights.digest(other)
    weights.fill(other, 4)
    assert weights.digest(one) != weights.digest(other)


def test_fill_keeps_the_variance_of_a_layer():
    layer = nn.Linear(512, 512, bias=False)
    weights.fill(weights.frozen(layer), 0)
    outputs = layer(torch.randn(256, 512, generator=torch.Generator().manual_seed(0)))
    assert float(outputs.std()) == pytest.approx(1, rel=0.05)


def test_fill_leaves_no_parameter_zero_and_no_statistic_odd():
    module = network()
    weights.fill(module, 0)
    assert all((parameter.abs() > 0).float().mean() > 0.99 for parameter in module.parameters())
    assert torch.equal(module[1].running_var, torch.ones(8))


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "4.bias"])
def test_the_digest_sees_one_bit(name):
    module = network()
    weights.fill(module, 0)
    before = weights.digest(module)
    flat = module.state_dict()[name].view(-1)
    flat[0] = torch.nextafter(flat[0], torch.tensor(torch.inf))
    assert weights.digest(module) != before


def test_the_digest_sees_the_shape():
    assert weights.digest(_zeros(4, 6)) != weights.digest(_zeros(6, 4))


def _zeros(*shape: int) -> nn.Module:
    module = nn.Module()
    module.values = nn.Parameter(torch.zeros(shape))
    return module
