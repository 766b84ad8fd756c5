"""The workloads by name: trtgate's own and the project's. Our own names cost no import of torch or onnx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trtgate.errors import UnknownValueError
from trtgate.workloads import project
from trtgate.workloads.known import Known

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

_ZOO = ("resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t")

TRANSFORMER_TOKENS: Final = 128
"""Tokens an input of the transformer where a case does not say."""

OWN: Final[Mapping[str, int | None]] = {
    "simple_cnn": None,
    **dict.fromkeys(_ZOO),
    "transformer": TRANSFORMER_TOKENS,
}
"""trtgate's own workloads, the smallest first and families together: tokens an input, None without that dimension."""

MICRO_MODELS: Final = (
    "conv_block",
    "attention",
    "parallel_matmuls",
    "parallel_convs",
    "mlp",
    "redundant",
    "overflow",
)
"""Graphs that put one optimisation to the test each; they stand in case ids and are no workloads."""

ON_GPU: Final = ("simple_cnn", "resnet18", "resnet50", "mobilenet_v3_small", "vit_b_16", "transformer")
"""What is measured on a GPU where nobody names workloads."""

ON_CPU: Final = ("simple_cnn", "resnet18", "mobilenet_v3_small")
"""What is measured without a GPU where nobody names workloads: two cores are enough for these."""


def names() -> tuple[str, ...]:
    """Every registered workload, the smallest first and families together, then the project's own."""
    return (*OWN, *_of_project())


def known() -> Known:
    """Every registered workload with the tokens of its inputs.

    Raises:
        UsageError: the project's module cannot be used.
        Exception: whatever importing that module raises.
    """
    theirs = {name: _tokens(factory) for name, factory in _of_project().items()}
    return Known({**OWN, **theirs}, tuple(theirs))


def known_without_importing(beside: Path | None) -> Known:
    """What can be known of the registered workloads without running the project's code, which imports torch.

    Args:
        beside: a file of the project, such as its policy, beside which its module may lie.
    """
    return Known(OWN, complete=not project.is_in_sight(beside))


def default_sequence(name: str) -> int | None:
    """Tokens an input where a case does not say; None for workloads without the dimension.

    Raises:
        UnknownValueError: no such workload.
    """
    _require_known(name)
    return known().tokens[name] or None


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
    if (factory := _of_project().get(name)) is not None:
        return factory(cache)
    if name == "simple_cnn":
        from trtgate.workloads.simple_cnn import SimpleCNNWorkload

        return SimpleCNNWorkload(cache, download=download)
    if name == "transformer":
        from trtgate.workloads.transformer import Transformer

        return Transformer()
    from trtgate.workloads.torchvision_zoo import TorchvisionModel

    return TorchvisionModel(name, cache, pretrained=pretrained)


def _tokens(factory: object) -> int | None:
    """What a class says of its inputs; 0 where only an object of it would: a function, or an attribute set later."""
    tokens = getattr(factory, "default_sequence", 0)
    if tokens is None:
        return 0 if getattr(factory, "has_sequence", False) else None
    return tokens if isinstance(tokens, int) else 0


def _of_project() -> Mapping[str, project.Factory]:
    return project.registered(tuple(OWN))


def _require_known(name: str) -> None:
    if name not in names():
        raise UnknownValueError("workload", name, names())
