import gc
import math
import weakref
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quantisable import Tiny

from trtgate.errors import CalibrationError, WorkloadError
from trtgate.precision import calibration
from trtgate.precision.calibration import CalibrationSpec, Method


class TwoInputs(Tiny):
    input_names = ("tokens", "weights")

    def inputs(self, batch, sequence, seed):
        return (torch.arange(batch * 5).reshape(batch, 5), torch.linspace(0, 1, batch * 3).reshape(batch, 3))


def test_it_asks_the_workload_for_what_the_spec_says():
    workload = Tiny()
    (image,) = calibration.collect(workload, CalibrationSpec(count=7, seed=11), None).tensors
    assert workload.asked == [(7, None, 11)]
    assert image.shape == (7, 3, 16, 16)


def test_another_seed_is_other_data():
    first = calibration.collect(Tiny(), CalibrationSpec(count=4, seed=0), None)
    assert first.sha256 == calibration.collect(Tiny(), CalibrationSpec(count=4), None).sha256
    assert first.sha256 == calibration.digest(first.tensors)
    assert first.sha256 != calibration.collect(Tiny(), CalibrationSpec(count=4, seed=1), None).sha256


def test_one_workload_is_asked_once_for_the_same_data_and_keeps_it_no_longer_than_it_lives():
    workload = Tiny()
    for seed in (0, 0, 1):
        calibration.collect(workload, CalibrationSpec(count=4, seed=seed), None)
    assert workload.asked == [(4, None, 0), (4, None, 1)]
    tensor = weakref.ref(calibration.collect(workload, CalibrationSpec(count=4), None).tensors[0])
    del workload
    gc.collect()
    assert tensor() is None


def test_a_workload_that_cannot_be_hashed_is_asked_each_time():
    class Equal(Tiny):
        __hash__ = None

    workload = Equal()
    for _ in range(2):
        calibration.collect(workload, CalibrationSpec(count=4), None)
    assert len(workload.asked) == 2


def test_the_digest_sees_one_changed_value_and_a_changed_shape():
    data = torch.zeros(2, 6)
    changed = data.clone()
    changed[1, 5] = 1e-30
    assert len({calibration.digest((t,)) for t in (data, changed, data.reshape(6, 2), data.double())}) == 4


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_below_one_is_refused(count):
    with pytest.raises(CalibrationError, match=rf"count is {count}\."):
        CalibrationSpec(count=count)


def _with(value: float) -> torch.Tensor:
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image[1, 2, 3, 4] = value
    return image


@dataclass
class _NotATuple:
    returned: object


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((), r"takes 1 inputs \(image\) and its calibration data has 0"),
        ((torch.zeros(2, 3, 16, 16),) * 2, "calibration data has 2"),
        ((torch.zeros(0, 3, 16, 16),), r"is empty \(shape \[0, 3, 16, 16\]\)"),
        ((torch.tensor(1.0),), r"is empty \(shape \[\]\)"),
        ((torch.zeros(2, 3, 8, 16),), r"shape \[2, 3, 8, 16\], but the model takes \['N', 3, 16, 16\]"),
        ((torch.zeros(2, 16, 16, 3),), r"shape \[2, 16, 16, 3\]"),
        ((torch.zeros(2, 3, 16, 16, dtype=torch.uint8),), "is uint8, but the model takes float32"),
        ((_with(math.nan),), r"1 values that are not finite, the first \(nan\) at \[1, 2, 3, 4\]"),
        ((_with(-math.inf),), r"the first \(-inf\) at \[1, 2, 3, 4\]"),
        ((torch.full((2, 3, 16, 16), 0.25),), "is the constant 0.25"),
    ],
)
def test_bad_data_is_refused_with_what_was_seen_and_what_to_do(data, says):
    workload = Tiny()
    workload.data = data.returned if isinstance(data, _NotATuple) else data
    with pytest.raises(CalibrationError, match=says) as caught:
        calibration.collect(workload, CalibrationSpec(count=2), None)
    assert caught.value.fix.endswith(".")


class Raising(Tiny):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def calibration_inputs(self, count, sequence, seed):
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file", "digits.npz"), "FileNotFoundError: [Errno 2] No such file: 'digits.npz'"),
        (ValueError("two\n  lines."), "ValueError: two lines"),
        (NotImplementedError(), "NotImplementedError"),
        (RuntimeError("x" * 9999), "RuntimeError: " + "x" * 486),
    ],
)
def test_what_a_workload_raises_is_told_in_one_sentence(error, said):
    with pytest.raises(CalibrationError) as caught:
        calibration.collect(Raising(error), CalibrationSpec(count=2), None)
    assert caught.value.problem == f"calibration_inputs of 'tiny_convnet' raised {said}."
    assert caught.value.fix.endswith("such as fp16.")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        WorkloadError("MNIST is not here.", "Download it."),
        torch.OutOfMemoryError("CUDA out of memory"),
        KeyboardInterrupt(),
    ],
)
def test_what_says_by_itself_what_is_wrong_passes(error):
    with pytest.raises(type(error)) as caught:
        calibration.collect(Raising(error), CalibrationSpec(count=2), None)
    assert caught.value is error


def test_integer_inputs_and_several_inputs_are_taken():
    tokens, weights = calibration.collect(TwoInputs(), CalibrationSpec(count=3), None).tensors
    assert tokens.shape == (3, 5)
    assert weights.shape == (3, 3)


def test_integers_of_another_width_are_refused():
    workload = TwoInputs()
    tokens, weights = workload.inputs(4, None, 0)
    workload.data = (tokens.int(), weights)
    with pytest.raises(CalibrationError, match=r"'tokens' .* is int32, but the model takes int64"):
        calibration.collect(workload, CalibrationSpec(count=4), None)


def test_inputs_with_different_numbers_of_examples_are_refused():
    workload = TwoInputs()
    tokens, weights = workload.inputs(4, None, 0)
    workload.data = (tokens, weights[:3])
    with pytest.raises(CalibrationError, match=r"'tokens': 4, 'weights': 3"):
        calibration.collect(workload, CalibrationSpec(count=4), None)


@given(count=st.integers(1, 40), batch=st.integers(1, 60))
def test_batches_are_whole_and_show_every_example(count, batch):
    data = torch.arange(count)
    seen = [rows for (rows,) in calibration.batches((data,), batch)]
    assert all(rows.shape == (batch,) for rows in seen)
    assert len(seen) == math.ceil(count / batch)
    flat = torch.cat(seen)
    assert torch.equal(flat[:count], data)
    assert set(flat.tolist()) == set(range(count))


def test_entropy_is_for_integers():
    calibration.refuse_entropy_for_fp8(CalibrationSpec())
    with pytest.raises(CalibrationError, match="Entropy"):
        calibration.refuse_entropy_for_fp8(CalibrationSpec(method=Method.ENTROPY))
