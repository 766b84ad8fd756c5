"""Simulated and real devices for the tests of measuring."""

from __future__ import annotations

import pytest
import torch
from simulated_gpu import SimulatedGpu

from trtgate.backends.base import BuildContext, Runner
from trtgate.measure.timing import BuildStopwatch


@pytest.fixture
def gpu():
    return SimulatedGpu()


@pytest.fixture
def gpu_context(gpu, tmp_path):
    """A context whose stream is the simulated GPU."""
    return BuildContext(torch.device("cuda"), gpu, tmp_path, BuildStopwatch())


@pytest.fixture
def cpu_context(tmp_path):
    return BuildContext(torch.device("cpu"), None, tmp_path, BuildStopwatch())


class Eager(Runner):
    """A real PyTorch module on the CPU."""

    def __init__(self, module):
        super().__init__()
        self.module = module.eval()

    def bind(self, inputs):
        self.inputs = tuple(inputs)

    def enqueue(self):
        self.result = self.module(*self.inputs)

    def outputs(self):
        return (self.result,)

    def close(self):
        self.result = None


@pytest.fixture
def eager():
    """Builds a bound runner of a square linear layer of a width, on one thread: a busy machine delays it less."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def build(width):
        torch.manual_seed(0)
        runner = Eager(torch.nn.Linear(width, width))
        runner.bind((torch.randn(width, width),))
        return runner

    yield build
    torch.set_num_threads(threads)
