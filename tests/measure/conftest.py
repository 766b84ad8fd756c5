"""Simulated and real devices for the tests of measuring."""

from __future__ import annotations

import onnx
import pytest
import torch
from simulated_gpu import SimulatedGpu

from trtgate.backends.base import BuildContext, Runner
from trtgate.measure.inspection import ensure_census
from trtgate.measure.timing import BuildStopwatch
from trtgate.workloads import micro_models


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


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Build ONNX files ahead of time, once each, and read their census."""
    folder = tmp_path_factory.mktemp("engines")
    context = BuildContext(torch.device("cpu"), None, folder, BuildStopwatch())
    known = {}

    def build(model, precision):
        key = (model if isinstance(model, str) else id(model), precision)
        if key not in known:
            if isinstance(model, str):
                path = micro_models.get(model).write(folder, precision)
            else:
                path = folder / f"{id(model)}.onnx"
                onnx.save(model, path)
            known[key] = ensure_census(path, precision, path.stem, context, ahead_of_time=True)[1]
        return known[key]

    return build
