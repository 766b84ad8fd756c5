"""Image classifiers of torchvision, with seeded random weights or, when asked for, the pretrained ones."""

from __future__ import annotations

import copy
import platform
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.efficientnet import MBConv
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from trtgate import artefacts
from trtgate.errors import UnknownValueError, WorkloadError
from trtgate.workloads import conditioning, images, weights
from trtgate.workloads.base import DigestedWorkload

NAMES = ("resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t")

_SEED = 20_260
_CONDITIONING_BATCH = 8
_SPREAD_BATCH = 4
# A residual branch is quieter than its trunk, as in trained networks (De and Smith, "Batch normalization biases
# residual blocks towards the identity function", NeurIPS 2020). At 1, rounding errors grow chaotically in resnet50.
_BRANCH_GAIN = 0.25
# Raise it when seeded weights, conditioning or pictures change what they yield.
_RECIPE = 1
_DIGEST = "digest"


class TorchvisionModel(DigestedWorkload):
    """One classifier: pictures of shape (batch, 3, 224, 224) in, logits of shape (batch, 1000) out.

    Random weights are conditioned by data (`trtgate.workloads.conditioning`). What conditioning found is kept in the
    cache together with the digest of the weights that result; a damaged file, another seed, recipe or library version
    means that it is found anew.

    Args:
        name: one of `NAMES`.
        cache: folder for conditioning and for downloaded weights.
        pretrained: use torchvision's default weights, downloading them if they are not there yet.

    Raises:
        UnknownValueError: no such model.
    """

    input_names = ("image",)
    output_names = ("logits",)

    def __init__(self, name: str, cache: Path, *, pretrained: bool = False) -> None:
        if name not in NAMES:
            raise UnknownValueError("torchvision model", name, NAMES)
        self.name = name
        self._folder = cache / "workloads" / name
        self._pretrained = pretrained

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights themselves and of the library that holds the architecture."""
        digest = weights.digest(self.module()) if self._pretrained else self._conditioning()[1]
        return artefacts.key(workload=self.name, weights=digest, torchvision=torchvision.__version__)

    @torch.inference_mode(False)
    def module(self) -> nn.Module:
        """A new float32 module on the CPU, in eval mode, without gradients; equal weights at every call.

        Raises:
            WorkloadError: pretrained weights cannot be had, or random ones are unfit for a comparison.
            StorageError: the cache cannot be written.
        """
        return copy.deepcopy(self._module)

    @cached_property
    def _module(self) -> nn.Module:
        """Made once: filling vit_b_16 takes ten times as long as copying it, and a cell asks for it five times."""
        if self._pretrained:
            module = self._architecture()
            module.load_state_dict(self._downloaded())
            return weights.frozen(module)
        found, digest = self._conditioning()
        module = self._seeded()
        conditioning.apply(module, found)
        if weights.digest(module) != digest:
            self._file.unlink(missing_ok=True)
            raise WorkloadError(
                f"The weights of '{self.name}' are not the ones that its cache in {self._folder} was made for.",
                "The cached file has been removed: run again.",
            )
        return module

    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        """Pictures of shape (batch, 3, 224, 224), float32, normalised as ImageNet's are."""
        self.checked_sequence(batch, sequence)
        return (images.batch(batch, seed),)

    def _architecture(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # torchvision draws weights that are overwritten at once
            module: nn.Module = torchvision.models.get_model(self.name, weights=None)
        return module

    def _seeded(self) -> nn.Module:
        module = weights.frozen(self._architecture())
        weights.fill(module, _SEED)
        for norm in _last_norms_of_branches(module):
            norm.weight.mul_(_BRANCH_GAIN)
        return module

    @property
    def _file(self) -> Path:
        # NumPy and the machine determine the seeded weights, torch and torchvision what conditioning sees of them.
        recipe = artefacts.key(
            recipe=_RECIPE,
            seed=_SEED,
            batch=_CONDITIONING_BATCH,
            numpy=np.__version__,
            torch=torch.__version__,
            torchvision=torchvision.__version__,
            machine=platform.machine(),
        )
        return self._folder / f"conditioning-{recipe}.npz"

    def _conditioning(self) -> tuple[conditioning.Conditioning, str]:
        """From the cache, or found now: what to apply to the seeded weights, and the digest of the result."""
        if not artefacts.intact(self._file):
            artefacts.write(self._file, self._write_conditioning)
        with np.load(self._file, allow_pickle=False) as stored:
            found = {key: torch.from_numpy(stored[key]) for key in stored.files if key != _DIGEST}
            return found, str(stored[_DIGEST])

    def _write_conditioning(self, path: Path) -> None:
        module = self._seeded()
        found = conditioning.condition(module, (images.batch(_CONDITIONING_BATCH, "conditioning"),), self.name)
        conditioning.apply(module, found)
        conditioning.require_spread(module, (images.batch(_SPREAD_BATCH, "spread"),), self.name)
        arrays = {key: value.numpy() for key, value in found.items()}
        np.savez(path, allow_pickle=False, **arrays, **{_DIGEST: np.array(weights.digest(module))})

    def _downloaded(self) -> dict[str, torch.Tensor]:
        origin = torchvision.models.get_model_weights(self.name).DEFAULT
        try:
            state: dict[str, torch.Tensor] = origin.get_state_dict(
                check_hash=True, progress=False, model_dir=str(self._folder), map_location="cpu", weights_only=True
            )
        except Exception as error:  # a damaged file makes torch.load raise KeyError, RuntimeError and others
            raise WorkloadError(
                f"The pretrained weights of '{self.name}' cannot be had from {origin.url} ({error}).",
                f"Check the network, put the file into {self._folder}, or leave out --pretrained.",
            ) from error
        return state


def _last_norms_of_branches(module: nn.Module) -> Iterator[nn.BatchNorm2d]:
    for block in module.modules():
        if isinstance(block, BasicBlock):
            yield block.bn2
        elif isinstance(block, Bottleneck):
            yield block.bn3
        elif isinstance(block, (InvertedResidual, MBConv)) and block.use_res_connect:
            yield block.block[-1][1]
