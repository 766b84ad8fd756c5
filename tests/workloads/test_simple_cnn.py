import shutil

import pytest
import torch

from trtgate import artefacts
from trtgate.errors import UsageError, WorkloadError
from trtgate.workloads import simple_cnn, weights
from trtgate.workloads.simple_cnn import SimpleCNN, SimpleCNNWorkload


@pytest.fixture(scope="module")
def workload(trained_cache) -> SimpleCNNWorkload:
    return SimpleCNNWorkload(trained_cache)


@pytest.fixture
def cache(trained_cache, tmp_path):
    """A copy of the trained cache that a test may damage."""
    shutil.copytree(trained_cache, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def trainings(monkeypatch):
    """Counts trainings, and makes each one short."""
    counted = []
    original = simple_cnn.train

    def train(digits):
        counted.append(digits.origin)
        return original(digits, steps=100)

    monkeypatch.setattr(simple_cnn, "train", train)
    monkeypatch.setattr(simple_cnn, "MIN_TOP1", 0.8)
    return counted


def weights_file(cache):
    return next((cache / "workloads" / "simple_cnn").glob("weights-*.npz"))


def test_the_network_is_the_articles():
    shapes = {name: tuple(parameter.shape) for name, parameter in SimpleCNN().named_parameters()}
    assert shapes == {
        "conv1.weight": (10, 1, 5, 5),
        "conv1.bias": (10,),
        "conv2.weight": (20, 10, 5, 5),
        "conv2.bias": (20,),
        "fc1.weight": (50, 320),
        "fc1.bias": (50,),
        "fc2.weight": (10, 50),
        "fc2.bias": (10,),
    }


def test_it_reads_held_out_digits(workload):
    images, labels = workload.evaluation()
    assert images.shape == (1000, 1, 28, 28)
    assert labels.dtype == torch.int64
    top1 = float((workload.module()(images).argmax(1) == labels).float().mean())
    assert top1 >= 0.95


def test_it_returns_logits(workload):
    outputs = workload.module()(workload.evaluation()[0])
    assert outputs.shape == (1000, 10)
    assert float(outputs.min()) < -1
    assert float(outputs.exp().sum(1).min()) > 2  # neither probabilities nor their logarithms


def test_the_module_is_ready_to_infer(workload):
    module = workload.module()
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module is not workload.module()


def test_training_is_reproducible_and_does_not_touch_torchs_state(digits, monkeypatch):
    monkeypatch.setattr(simple_cnn, "MIN_TOP1", 0.8)
    torch.manual_seed(11)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    one = simple_cnn.train(digits, steps=100)
    torch.manual_seed(12)
    assert weights.digest(one) == weights.digest(simple_cnn.train(digits, steps=100))
    torch.manual_seed(11)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_network_below_95_percent_is_refused(digits):
    with pytest.raises(WorkloadError, match=r"reads \d+\.\d% of the held-out digits, below 95%"):
        simple_cnn.train(digits, steps=5)


def test_cached_weights_are_used(cache, workload, trainings):
    fresh = SimpleCNNWorkload(cache)
    assert fresh.fingerprint == workload.fingerprint
    assert trainings == []


def test_training_works_for_a_caller_in_inference_mode(digits, monkeypatch):
    monkeypatch.setattr(simple_cnn, "MIN_TOP1", 0)
    with torch.inference_mode():
        network = simple_cnn.train(digits, steps=2)
    assert not any(parameter.is_inference() for parameter in network.parameters())


def test_truncated_weights_are_trained_anew(cache, workload, trainings):
    file = weights_file(cache)
    file.write_bytes(file.read_bytes()[:1000])
    module = SimpleCNNWorkload(cache).module()
    assert len(trainings) == 1
    assert artefacts.intact(file)
    assert weights.digest(module) != weights.digest(workload.module())  # the short training of this test


def test_another_recipe_is_trained_anew(cache, trainings, monkeypatch):
    monkeypatch.setattr(simple_cnn, "_SEED", 6)
    SimpleCNNWorkload(cache).module()
    assert len(trainings) == 1


def test_inputs_are_held_out_digits_drawn_by_the_seed(workload):
    (batch,) = workload.inputs(64, None, seed=0)
    assert batch.shape == (64, 1, 28, 28)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, workload.inputs(64, None, seed=0)[0])
    assert not torch.equal(batch, workload.inputs(64, None, seed=1)[0])
    held_out = {digit.numpy().tobytes() for digit in workload.evaluation()[0]}
    drawn = [digit.numpy().tobytes() for digit in batch]
    assert set(drawn) <= held_out
    assert len(set(drawn)) == 64
    assert workload.inputs(1500, None, seed=0)[0].shape == (1500, 1, 28, 28)


def test_calibration_never_sees_a_held_out_digit(workload):
    held_out = {digit.numpy().tobytes() for digit in workload.evaluation()[0]}
    (batch,) = workload.calibration_inputs(512, None, seed=0)
    assert not any(digit.numpy().tobytes() in held_out for digit in batch)


@pytest.mark.parametrize(
    ("batch", "sequence", "says"), [(0, None, "batch of 'simple_cnn' is 0"), (1, 128, "no sequence")]
)
def test_bad_shapes_are_refused(workload, batch, sequence, says):
    with pytest.raises(UsageError, match=says):
        workload.inputs(batch, sequence, seed=0)
