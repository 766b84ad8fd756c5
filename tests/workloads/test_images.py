import numpy as np
import pytest
import torch

from trtgate.workloads import images


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return images.batch(6, 0)


def test_shape_datatype_and_normalisation(pictures):
    assert pictures.shape == (6, 3, 224, 224)
    assert pictures.dtype == torch.float32
    # What 0 and 1 become under torchvision's ImageNet normalisation of the red channel.
    lowest, highest = float(pictures[:, 0].min()), float(pictures[:, 0].max())
    assert lowest == pytest.approx((0 - 0.485) / 0.229)
    assert highest == pytest.approx((1 - 0.485) / 0.229)
    assert float(pictures.std()) > 0.4


def test_pixels_are_eight_bit_levels(pictures):
    levels = (pictures[:, 1].double() * 0.224 + 0.456) * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4


def test_a_smaller_batch_is_the_start_of_a_larger_one(pictures):
    assert torch.equal(images.batch(2, 0), pictures[:2])


def test_seeds_and_positions_give_different_pictures(pictures):
    assert not torch.equal(images.batch(1, 1), pictures[:1])
    flat = pictures.flatten(1)
    correlation = np.corrcoef(flat.numpy())
    assert np.abs(correlation[~np.eye(6, dtype=bool)]).max() < 0.9


def test_neighbouring_pixels_agree_as_in_photographs(pictures):
    left, right = pictures[..., :-1].flatten().numpy(), pictures[..., 1:].flatten().numpy()
    assert np.corrcoef(left, right)[0, 1] > 0.9


def test_amplitude_falls_with_frequency(pictures):
    amplitude = torch.fft.rfft2(pictures).abs().mean((0, 1))
    assert amplitude[1:4, 1:4].mean() > 5 * amplitude[30:40, 30:40].mean() > 5 * amplitude[90:110, 90:110].mean()
