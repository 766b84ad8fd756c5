import math

import pytest
import torch

from trtgate.precision.sqnr import sqnr_db


@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20.0), (0.01, 40.0), (1.0, 0.0), (10.0, -20.0)])
def test_decibels_of_a_relative_error(error, decibels):
    reference = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert sqnr_db(reference, reference * (1 + error)) == pytest.approx(decibels)


def test_uniform_rounding_gives_six_decibels_a_bit():
    # Widrow and Kollar, Quantization Noise (2008): 6.02 dB a bit for a full-scale uniform signal.
    signal = torch.rand(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    levels = [sqnr_db(signal, (signal * 2 ** (bits - 1)).round() / 2 ** (bits - 1)) for bits in (4, 8)]
    assert levels[0] == pytest.approx(6.02 * 4, abs=0.3)
    assert levels[1] == pytest.approx(6.02 * 8, abs=0.3)


def test_the_ends():
    ones = torch.ones(3)
    assert sqnr_db(ones, ones) == math.inf
    assert sqnr_db(torch.zeros(3), torch.zeros(3)) == math.inf
    assert sqnr_db(torch.zeros(3), ones) == -math.inf
    assert sqnr_db(ones, torch.tensor([1.0, math.nan, 1.0])) == -math.inf
    with pytest.raises(ValueError, match="shapes differ"):
        sqnr_db(ones, torch.ones(3, 1))
    with pytest.raises(ValueError, match="not finite"):
        sqnr_db(torch.tensor([math.inf]), torch.ones(1))
