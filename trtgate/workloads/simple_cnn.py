"""A small convolutional network that reads MNIST digits, trained here in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from trtgate import artefacts
from trtgate.errors import WorkloadError
from trtgate.workloads import mnist, weights
from trtgate.workloads.base import DigestedWorkload

MIN_TOP1 = 0.95

_SEED = 5
_STEPS = 600
_BATCH = 64
_PEAK_RATE = 0.01
# Raise it when the network, the training or the split changes.
_RECIPE = 1


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions (10 and 20 channels), each with 2x2 max-pooling and ReLU, then 320 -> 50 -> 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, 10) for digits of shape (batch, 1, 28, 28)."""
        hidden = functional.relu(functional.max_pool2d(self.conv1(image), 2))
        hidden = functional.relu(functional.max_pool2d(self.conv2(hidden), 2))
        hidden = functional.relu(self.fc1(hidden.flatten(1)))
        logits: torch.Tensor = self.fc2(hidden)
        return logits


class SimpleCNNWorkload(DigestedWorkload):
    """`SimpleCNN` trained on real digits, with held-out digits as inputs and for top-1 accuracy.

    The trained weights are kept in the cache and used only if their digest is right and nothing that shaped them has
    changed; otherwise the network is trained anew, in about ten seconds on two cores.

    Args:
        cache: folder for weights and digits.
        download: let torchvision fetch the whole of MNIST.
    """

    name = "simple_cnn"
    input_names = ("image",)
    output_names = ("logits",)

    def __init__(self, cache: Path, *, download: bool = False) -> None:
        self._cache = cache
        self._download = download

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the trained weights."""
        return artefacts.key(workload=self.name, recipe=_RECIPE, weights=weights.digest(self.module()))

    @torch.inference_mode(False)
    def module(self) -> nn.Module:
        """The trained network: float32, on the CPU, in eval mode, without gradients.

        Raises:
            WorkloadError: digits cannot be had, or training missed 95% top-1 on the held-out digits.
            StorageError: the cache cannot be written.
        """
        recipe = artefacts.key(
            recipe=_RECIPE,
            origin=mnist.origin(self._cache, download=self._download),
            training=[_SEED, _STEPS, _BATCH, _PEAK_RATE],
            torch=torch.__version__,
        )
        file = self._cache / "workloads" / self.name / f"weights-{recipe}.npz"
        if not artefacts.intact(file):
            trained = train(self._digits)
            artefacts.write(file, lambda path: _save(trained, path))
        module = SimpleCNN()
        with np.load(file, allow_pickle=False) as stored:
            module.load_state_dict({key: torch.from_numpy(stored[key]) for key in stored.files})
        return weights.frozen(module)

    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        """Held-out digits of shape (batch, 1, 28, 28), drawn by the seed; each at most once up to 1,000."""
        self.checked_sequence(batch, sequence)
        return (_draw(self._digits.held_out, batch, "inputs", seed),)

    def calibration_inputs(self, count: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        """Digits of the training part, so that accuracy on the held-out ones stays honest."""
        self.checked_sequence(count, sequence)
        return (_draw(self._digits.training, count, "calibration", seed),)

    def evaluation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The 1,000 held-out digits, shape (1000, 1, 28, 28), and their labels, shape (1000,)."""
        return mnist.normalised(self._digits.held_out), torch.from_numpy(self._digits.held_out_labels)

    @cached_property
    def _digits(self) -> mnist.Digits:
        return mnist.load(self._cache, download=self._download)


def train(digits: mnist.Digits, steps: int = _STEPS) -> SimpleCNN:
    """Train on seeded batches with AdamW and a one-cycle learning rate; the same weights each time on one machine.

    Raises:
        WorkloadError: less than 95% of the held-out digits are read correctly.
    """
    with _reproducible():
        pixels, labels = mnist.normalised(digits.training), torch.from_numpy(digits.training_labels)
        order = _epochs(len(labels), steps * _BATCH)
        network = SimpleCNN()
        optimiser = torch.optim.AdamW(network.parameters(), lr=_PEAK_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_PEAK_RATE, total_steps=steps)
        for chosen in torch.split(order, _BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(pixels[chosen]), labels[chosen]))
            optimiser.step()
            schedule.step()
        accuracy = top1(network, digits)
    if accuracy < MIN_TOP1:
        raise WorkloadError(
            f"The trained simple_cnn reads {accuracy:.1%} of the held-out digits, below {MIN_TOP1:.0%}.",
            f"Check the digits ({digits.origin}): remove the cache and run again.",
        )
    return network


@torch.inference_mode()
def top1(network: nn.Module, digits: mnist.Digits) -> float:
    """Share of the held-out digits that a network reads correctly."""
    predicted = network(mnist.normalised(digits.held_out)).argmax(dim=1)
    return float((predicted == torch.from_numpy(digits.held_out_labels)).float().mean())


def _epochs(count: int, total: int) -> torch.Tensor:
    """Indices of ``total`` examples: every example once, in random order, before any comes again."""
    random = weights.generator("simple_cnn order", _SEED)
    epochs = [random.permutation(count) for _ in range(-(-total // count))]
    return torch.from_numpy(np.concatenate(epochs)[:total])


def _draw(pixels: npt.NDArray[np.uint8], count: int, *seed: object) -> torch.Tensor:
    chosen = weights.generator("simple_cnn", *seed).choice(len(pixels), size=count, replace=count > len(pixels))
    return mnist.normalised(pixels[chosen])


@contextmanager
def _reproducible() -> Iterator[None]:
    """Seeded, and on one thread: sums over threads come out in another order on another number of cores."""
    threads = torch.get_num_threads()
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _save(network: nn.Module, path: Path) -> None:
    np.savez(path, allow_pickle=False, **{key: value.numpy() for key, value in network.state_dict().items()})
