"""Workloads small enough to quantise in a test, with every layer kind that a quantiser treats differently."""

from pathlib import Path

import torch
from torch import nn

from trtgate.workloads.base import Workload

BATCH = 4


class ConvNet(nn.Module):
    """Convolution, pooling, ReLU and two linear layers; weights large enough for the outputs to spread."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 4 * 4, 24)
        self.head = nn.Linear(24, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(torch.max_pool2d(self.conv(image), 2))
        hidden = torch.relu(torch.max_pool2d(self.wide(hidden), 2))
        return self.head(torch.relu(self.fc(hidden.flatten(1))))


class Elementwise(nn.Module):
    """Nothing that has an int8 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.norm(image))


class Tiny(Workload):
    """A seeded module whose calibration data a test can replace."""

    input_names = ("image",)
    output_names = ("logits",)

    def __init__(self, kind: type[nn.Module] = ConvNet, shape: tuple[int, ...] = (3, 16, 16)) -> None:
        self.name = f"tiny_{kind.__name__.lower()}"
        self.kind = kind
        self.shape = shape
        self.asked: list[tuple[int, int | None, int]] = []
        self.data: tuple[torch.Tensor, ...] | None = None

    @property
    def fingerprint(self) -> str:
        return f"{self.name} 1"

    def module(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return self.kind().eval().requires_grad_(False)

    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(batch, *self.shape, generator=generator),)

    def calibration_inputs(self, count: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        self.asked.append((count, sequence, seed))
        return self.data if self.data is not None else super().calibration_inputs(count, sequence, seed)


def exported(workload: Workload, folder: Path, batch: int = BATCH) -> Path:
    """The workload's fp32 ONNX model with a static batch."""
    path = folder / f"{workload.name}-b{batch}.onnx"
    torch.onnx.export(
        workload.module(),
        workload.inputs(batch, None, 0),
        path,
        input_names=workload.input_names,
        output_names=workload.output_names,
        dynamo=True,
        external_data=False,
        opset_version=20,
        verbose=False,
    )
    return path
