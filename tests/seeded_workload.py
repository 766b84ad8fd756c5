"""A workload for tests that is made in no time: a seeded module, and seeded inputs of one shape."""

from collections.abc import Callable

import torch

from trtgate.workloads.base import Workload


class SeededWorkload(Workload):
    """A test's subclass says what the module and one input are; the name is that of a workload whose place it takes."""

    output_names = ("logits",)
    make: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]

    def module(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return type(self).make().eval().requires_grad_(False)

    def inputs(self, batch, sequence, seed):
        return (torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(seed)),)
