"""The workloads by name: trtgate's own and the project's. Our own names cost no import of torch or torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trtgate.errors import UnknownValueError
from trtgate.workloads import project

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

_ZOO = ("resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t")
OWN = ("simple_cnn", *_ZOO, "transformer")
"""Workloads whose source is in trtgate itself."""
_DEFAULT_SEQUENCES: dict[str, int] = {"transformer": 128}


def names() -> tuple[str, ...]:
    """Every registered workload, the smallest first and families together, then the project's own."""
    return (*OWN, *project.registered(OWN))


def default_sequence(name: str) -> int | None:
    """Tokens an input where a case does not say; None for workloads without the dimension.

    Raises:
        UnknownValueError: no such workload.
    """
    _require_known(name)
    # A project usually registers classes, whose attribute the dimension is.
    its_own = getattr(project.registered(OWN).get(name), "default_sequence", None)
    return _DEFAULT_SEQUENCES.get(name, its_own)


def get(name: str, *, cache: Path, pretrained: bool = False, download: bool = False) -> Workload:
    """A workload; cheap, since weights are made or read when they are first needed.

    Args:
        name: one of `names`.
        cache: folder for weights and data.
        pretrained: torchvision's models take its pretrained weights and download them if need be; others ignore it.
        download: simple_cnn may download the whole of MNIST; others ignore it.

    Raises:
        UnknownValueError: no such workload.
    """
    _require_known(name)
    if (factory := project.registered(OWN).get(name)) is not None:
        return factory(cache)
    if name == "simple_cnn":
        from trtgate.workloads.simple_cnn import SimpleCNNWorkload

        return SimpleCNNWorkload(cache, download=download)
    if name == "transformer":
        from trtgate.workloads.transformer import Transformer

        return Transformer()
    from trtgate.workloads.torchvision_zoo import TorchvisionModel

    return TorchvisionModel(name, cache, pretrained=pretrained)


def _require_known(name: str) -> None:
    if name not in names():
        raise UnknownValueError("workload", name, names())
