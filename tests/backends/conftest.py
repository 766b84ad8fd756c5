"""A workload small enough to build in milliseconds, and what a backend is given to build with."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from trtgate.backends.base import BuildContext
from trtgate.workloads.base import Workload


class _Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.relu(self.convolution(image)).mean((2, 3))
        return self.linear(hidden) * scale, hidden


class TinyWorkload(Workload):
    name = "tiny"
    input_names = ("image", "scale")
    output_names = ("logits", "hidden")

    @property
    def fingerprint(self) -> str:
        return "tiny-1"

    def module(self) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return _Net().eval().requires_grad_(False)

    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, 3, 8, 8, generator=generator), torch.rand(batch, 4, generator=generator) + 0.5


class Stages:
    """A stopwatch that keeps the names of its stages and reads no clock."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.names.append(name)
        yield


@pytest.fixture
def workload() -> Workload:
    return TinyWorkload()


@pytest.fixture
def stages() -> Stages:
    return Stages()


@pytest.fixture
def context(tmp_path: Path, stages: Stages) -> BuildContext:
    return BuildContext(torch.device("cpu"), None, tmp_path, stages)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for tests that do not mind who exported a model first."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture
def warm_context(context: BuildContext, shared_cache: Path) -> BuildContext:
    return dataclasses.replace(context, cache=shared_cache)


@pytest.fixture
def conv_relu(tmp_path: Path) -> Callable[..., Path]:
    """Writes a convolution and an activation as ONNX; the activation's operator and domain can be made up."""

    def write(operator: str = "Relu", domain: str = "", channels: int = 8) -> Path:
        weight = np.random.default_rng(0).standard_normal((channels, 3, 3, 3)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "weight"], ["hidden"], name="stem/conv", pads=[1, 1, 1, 1]),
                helper.make_node(operator, ["hidden"], ["out"], name="stem/act", domain=domain),
            ],
            "conv_relu",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 16, 16])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2, channels, 16, 16])],
            [numpy_helper.from_array(weight, "weight")],
        )
        opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        path = tmp_path / f"{operator}-{channels}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets), path)
        return path

    return write
