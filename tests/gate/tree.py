"""Writes trees that a gate can compare: each a folder with the workloads of a small project."""

from pathlib import Path

_MODULE = """
import os, signal
import torch
from trtgate.workloads.base import Workload

SIZE = 128


class Net(torch.nn.Module):
    def __init__(self, layers, calls_until_killed=None, nan=False):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(SIZE, SIZE) for _ in range(layers))
        self.calls_until_killed, self.nan = calls_until_killed, nan

    def forward(self, x):
        if self.calls_until_killed is not None:
            self.calls_until_killed -= 1
            if self.calls_until_killed < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        y = x
        for layer in self.layers:
            y = torch.tanh(layer(x + 0.1 * y))
        return y * float("nan") if self.nan and x.dtype is torch.float32 else y


class Small(Workload):
    input_names, output_names = ("x",), ("y",)

    def __init__(self, name, fewer=1, **options):
        self.name, self.fewer, self.options = name, fewer, options

    @property
    def fingerprint(self):
        return f"{self.name} {self.options}"

    def module(self):
        torch.manual_seed(0)
        print("this must not reach the protocol")
        return Net(**self.options).eval().requires_grad_(False)

    def inputs(self, batch, sequence, seed):
        return (torch.randn(batch // self.fewer, SIZE, generator=torch.Generator().manual_seed(seed)),)


"""


def write_tree(folder: Path, workloads: dict[str, str], backends: dict[str, str] | None = None) -> Path:
    """Write a project whose workloads are small nets; by name, the arguments of each as Python text.

    Each has one case, on the backend that ``backends`` names for it, else eager.
    """
    folder.mkdir(parents=True)
    entries = "".join(
        f"    {name!r}: lambda cache: Small({name!r}, {options}),\n" for name, options in workloads.items()
    )
    (folder / "trtgate_workloads.py").write_text(f"{_MODULE}WORKLOADS = {{\n{entries}}}\n")
    cases = [case_of(name, (backends or {}).get(name, "eager")) for name in workloads]
    (folder / "trtgate.toml").write_text(f"{POLICY}cases = {cases}\n")
    return folder


def case_of(name: str, backend: str = "eager") -> str:
    return f"{name}-{backend}-fp32-b4-stream"


# As few pairs and as wide margins as a busy machine without a GPU needs; the rates are of no interest here.
POLICY = """
[measure]
warmup_seconds = 0.2

[judge]
first_pairs = 3
extension_pairs = 3
aa_pairs = 3
false_failure_rate = 0.4
first_look_share = 0.5
candidate_level = 0.02
false_same_rate = 0.45
aa_tolerance = 0.9

[judge.margin]
latency = 0.3

[gate]
block_rounds = 40
quantities = ["latency", "parity", "optimisation"]
"""
