"""A workload of two outputs that is computed in a millisecond, and runners that are right or wrong about it."""

from __future__ import annotations

import torch

from trtgate.backends.base import Runner
from trtgate.case import Case
from trtgate.precision.cast import cast_inputs, prepare
from trtgate.workloads.base import Workload


class TwoHeads(torch.nn.Module):
    def __init__(self, logit_scale):
        super().__init__()
        self.body = torch.nn.Linear(16, 32)
        self.logits = torch.nn.Linear(32, 10)
        self.embedding = torch.nn.Linear(32, 4)
        self.logit_scale = logit_scale

    def forward(self, values):
        hidden = torch.relu(self.body(values))
        return self.logits(hidden) * self.logit_scale, self.embedding(hidden)


class SmallWorkload(Workload):
    name = "small"
    input_names = ("values",)
    output_names = ("logits", "embedding")

    def __init__(self, *, logit_scale=1.0, varied=True, task=False, fingerprint="small"):
        self.logit_scale = logit_scale
        self.varied = varied
        self.task = task
        self._fingerprint = fingerprint
        self.modules_made = 0

    @property
    def fingerprint(self):
        return self._fingerprint

    def module(self):
        assert not torch.is_inference_mode_enabled()  # training or caching weights would not work there
        self.modules_made += 1
        torch.manual_seed(7)
        return TwoHeads(self.logit_scale).eval().requires_grad_(False)

    def inputs(self, batch, sequence, seed):
        generator = torch.Generator().manual_seed(seed if self.varied else 0)
        drawn = torch.randn(batch, 16, generator=generator)
        return (drawn if self.varied else drawn[:1].expand(batch, 16).contiguous(),)

    def evaluation(self):
        if not self.task:
            return None
        (inputs,) = self.inputs(100, None, seed=99)
        return inputs, self.module()(inputs)[0].argmax(-1)


def case_of(precision="fp32", batch=4, backend="eager"):
    return Case.parse(f"small-{backend}-{precision}-b{batch}-stream")


class ModuleUnderTest(Runner):
    """Plain PyTorch at the case's precision, with its outputs passed through ``change(outputs, call)``."""

    def __init__(self, workload, case, change=lambda outputs, call: outputs):
        super().__init__()
        self.module = prepare(workload, case.precision)
        self.precision = case.precision
        self.change = change
        self.calls = 0

    def bind(self, inputs):
        self.inputs = cast_inputs(inputs, self.precision)

    def enqueue(self):
        self.result = self.change(self.module(*self.inputs), self.calls)
        self.calls += 1

    def outputs(self):
        return self.result

    def close(self):
        self.result = None
