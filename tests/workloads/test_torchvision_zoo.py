import numpy as np
import pytest
import torch
import torchvision

from trtgate import artefacts
from trtgate.errors import UnknownValueError, UsageError, WorkloadError
from trtgate.workloads import conditioning, torchvision_zoo, weights
from trtgate.workloads.torchvision_zoo import TorchvisionModel

NAME = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def workload(cache) -> TorchvisionModel:
    return TorchvisionModel(NAME, cache)


@pytest.fixture
def conditionings(monkeypatch):
    """Counts how often conditioning ran."""
    counted = []
    original = conditioning.condition
    monkeypatch.setattr(conditioning, "condition", lambda *args: (counted.append(args[2]), original(*args))[1])
    return counted


def stored_file(workload, tmp_path):
    """A copy of the workload's cache that a test may damage: the new workload and its file."""
    workload.fingerprint  # noqa: B018  (makes the file)
    copy = TorchvisionModel(NAME, tmp_path)
    copy._file.parent.mkdir(parents=True)
    copy._file.write_bytes(workload._file.read_bytes())
    artefacts.sidecar(copy._file).write_bytes(artefacts.sidecar(workload._file).read_bytes())
    return copy, copy._file


def test_random_weights_tell_pictures_apart(workload):
    (pictures,) = workload.inputs(4, None, seed=0)
    logits = workload.module()(pictures)
    assert logits.shape == (4, 1000)
    # Left as torchvision makes them, the spread is 6e-10.
    assert conditioning.spread(logits) > 0.3
    assert 0.1 < float(logits.std()) < 100


def test_modules_are_equal_frozen_and_made_without_touching_torchs_generator(workload):
    before = torch.random.get_rng_state()
    one, other = workload.module(), workload.module()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one is not other
    assert weights.digest(one) == weights.digest(other)
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_what_conditioning_found_is_cached(workload, tmp_path, conditionings):
    copy, _ = stored_file(workload, tmp_path)
    assert copy.fingerprint == workload.fingerprint
    assert weights.digest(copy.module()) == weights.digest(workload.module())
    assert conditionings == []


def test_a_truncated_cache_is_made_anew(workload, tmp_path, conditionings):
    copy, file = stored_file(workload, tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    assert copy.fingerprint == workload.fingerprint
    assert conditionings == [NAME]


def test_another_seed_is_another_model(workload, tmp_path, conditionings, monkeypatch):
    copy, _ = stored_file(workload, tmp_path)
    monkeypatch.setattr(torchvision_zoo, "_SEED", 1)
    assert copy.fingerprint != workload.fingerprint
    assert conditionings == [NAME]


def test_a_cache_made_for_other_weights_is_refused_and_removed(workload, tmp_path):
    copy, file = stored_file(workload, tmp_path)
    with np.load(file) as stored:
        arrays = dict(stored)
    key = next(key for key in arrays if key.endswith("running_var"))
    arrays[key] = arrays[key] * 2
    artefacts.write(file, lambda path: np.savez(path, **arrays))
    with pytest.raises(WorkloadError, match="are not the ones that its cache"):
        copy.module()
    assert weights.digest(copy.module()) == weights.digest(workload.module())


def test_pretrained_weights_are_read_from_the_cache_and_not_conditioned(workload, tmp_path, conditionings):
    """What a download would leave stands in the folder, so that no network is needed."""
    url = torchvision.models.get_model_weights(NAME).DEFAULT.url
    folder = tmp_path / "workloads" / NAME
    folder.mkdir(parents=True)
    torch.save(workload.module().state_dict(), folder / url.rsplit("/", 1)[1])
    conditionings.clear()
    pretrained = TorchvisionModel(NAME, tmp_path, pretrained=True)
    assert weights.digest(pretrained.module()) == weights.digest(workload.module())
    assert not pretrained.module().training
    assert conditionings == []
    (folder / url.rsplit("/", 1)[1]).write_bytes(b"half a download")
    with pytest.raises(WorkloadError, match=f"pretrained weights of '{NAME}' cannot be had from https://"):
        TorchvisionModel(NAME, tmp_path, pretrained=True).module()


def test_bad_values_are_refused(workload, tmp_path):
    with pytest.raises(UnknownValueError, match="alexnet"):
        TorchvisionModel("alexnet", tmp_path)
    with pytest.raises(UsageError, match="no sequence dimension"):
        workload.inputs(1, 64, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision_zoo.NAMES)
def test_every_model_is_fit_for_comparisons_in_half_precision(name, cache):
    """Outputs that tell pictures apart, and rounding errors that a chaotic network would blow up."""
    workload = TorchvisionModel(name, cache)
    (pictures,) = workload.inputs(4, None, seed=0)
    with torch.inference_mode():
        exact = workload.module().double()(pictures.double())
        assert conditioning.spread(exact) > 0.2
        for dtype, most in ((torch.float32, 1e-5), (torch.float16, 1e-2)):
            error = workload.module().to(dtype)(pictures.to(dtype)).double() - exact
            assert float(error.norm() / exact.norm()) < most


def test_a_module_is_the_callers_own(workload):
    before = weights.digest(workload.module())
    with torch.no_grad():
        for parameter in workload.module().parameters():
            parameter.zero_()
    workload.inputs(1, None, seed=0)[0].zero_()
    assert weights.digest(workload.module()) == before
    assert workload.inputs(1, None, seed=0)[0].any()
