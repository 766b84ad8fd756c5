"""Proof that the clock tells the truth: two claims about trtgate.measure.timing, shown on a GPU.

    python -m benchmarks.proof_of_clock [CASE ...] [--json proof.json]

1. The runner costs nothing that matters: for TensorRT engines in stream execution, ``Runner.enqueue`` takes at most 10%
   more host time than a bare ``execute_async_v3`` on the same bound context (upper bound of the interval), and an
   inference allocates nothing, neither from PyTorch's allocator nor on the device.
2. Device time is the time that the device worked: for cases of 0.2 ms and more it agrees within 2% with the span from
   the first kernel's start to the last one's end that torch.profiler (CUPTI) reports for the very same inferences. What
   the same case takes without a profiler stands beside it. Before the first kernel of a CUDA graph the profiler makes
   the device pause; that is not counted against the clock, and both errors are told.

Exit codes: 0 both hold; 1 one does not; 2 usage; 4 no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.clock_agreement import Agreement, agreement, shortest_graphs_pause
from benchmarks.runner_cost import HostCost, host_cost
from fixtures.guard import guarded
from trtgate.backends import registry as backends
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import BackendName, Case, Execution
from trtgate.errors import TrtgateError, UsageError
from trtgate.measure.device import cuda_problem, identity
from trtgate.measure.memory import measure_build
from trtgate.measure.timing import BuildStopwatch
from trtgate.precision import tf32
from trtgate.workloads import registry as workloads

DEFAULT_CASES: Final = (
    "simple_cnn-tensorrt_engine-fp16-b1-stream",
    "resnet18-tensorrt_engine-fp16-b8-stream",
    "resnet18-tensorrt_engine-fp16-b8-graph",
    "resnet18-eager-fp16-b8-stream",
    # As short as the claim goes: what an event pair adds weighs most here.
    "resnet18-tensorrt_engine-fp16-b1-stream",
    "resnet18-tensorrt_engine-fp16-b1-graph",
    "resnet18-inductor-fp16-b1-graph",
    "mobilenet_v3_small-tensorrt_engine-fp16-b1-graph",
    "mobilenet_v3_small-torch_tensorrt-fp16-b1-graph",
    "mobilenet_v3_small-inductor-fp16-b1-graph",
    "resnet50-tensorrt_engine-fp16-b8-graph",
    "resnet50-eager-fp32-b8-stream",
    "vit_b_16-eager-fp16-b8-graph",
)


@dataclass(slots=True)
class _Proof:
    """What both claims found, and why a case says nothing."""

    costs: list[HostCost] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether both claims hold, each for one case at least."""
        judged = bool(self.costs) and any(found.judged for found in self.agreements)
        every = all(cost.holds for cost in self.costs) and all(found.holds for found in self.agreements)
        return judged and every and not self.failures


def _tables(costs: Sequence[HostCost], agreements: Sequence[Agreement]) -> list[Table]:
    host = Table("case", "enqueue us", "bare us", "ratio", "allocations", "device bytes", "holds", title="1. Host cost")
    for cost in costs:
        host.add_row(
            cost.case,
            f"{cost.enqueue_s * 1e6:.2f}",
            f"{cost.bare_s * 1e6:.2f}",
            f"{cost.ratio:.3f} [{cost.ratio_low:.3f}, {cost.ratio_high:.3f}]",
            str(cost.allocations),
            str(cost.device_growth_bytes),
            "yes" if cost.holds else "NO",
        )
    device = Table(
        *(
            "case",
            "device ms",
            "profiler ms",
            "error",
            "pause us",
            "profiler's own us",
            "error without",
            "left over us",
        ),
        *("kernels", "unprofiled ms", "holds"),
        title="2. Device time",
    )
    for found in agreements:
        device.add_row(
            found.case,
            f"{found.device_s * 1e3:.4f}",
            f"{found.span_s * 1e3:.4f}",
            f"{found.error:+.2%}",
            f"{found.pause_s * 1e6:.2f}",
            f"{found.added_s * 1e6:.2f}",
            f"{found.clock_error:+.2%}",
            f"{found.unexplained_s * 1e6:+.2f}",
            str(found.kernels),
            f"{found.unprofiled_s * 1e3:.4f}",
            ("yes" if found.holds else "NO") if found.judged else "too short",
        )
    return [host, device]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof; the exit code."""
    parser = argparse.ArgumentParser(prog="proof_of_clock", description="Show that the clock tells the truth on a GPU.")
    parser.add_argument("cases", nargs="*", default=DEFAULT_CASES, help="case ids; without any, a default selection")
    parser.add_argument("--rounds", type=int, default=300, help="turns of the two calls of claim 1")
    parser.add_argument("--samples", type=int, default=40, help="profiled inferences a case of claim 2")
    parser.add_argument("--cache", type=Path, default=Path(".trtgate"), help="folder for artefacts")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    problem = cuda_problem()
    if problem is not None:
        print(f"{problem} The proof needs a GPU: run it on a machine that has one.", file=sys.stderr)
        return 4
    try:
        cases = [Case.parse(text) for text in options.cases]
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    proof = _prove(cases, options)
    console = Console()
    for table in _tables(proof.costs, proof.agreements):
        console.print(table)
    console.print("Both claims hold." if proof.holds else "NOT shown: see the tables.")
    judged = [found for found in proof.agreements if found.judged]
    console.print(
        f"With the profiler's own pause counted against the clock, {sum(found.holds_as_profiled for found in judged)} "
        f"of {len(judged)} cases agree."
    )
    if options.json is not None:
        figures = {
            "identity": identity().model_dump(),
            "host_cost": [*map(asdict, proof.costs)],
            "device_time": [
                asdict(found) | {"clock_error": found.clock_error, "judged": found.judged, "holds": found.holds}
                for found in proof.agreements
            ],
            "failures": proof.failures,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if proof.holds else 1


def _prove(cases: Sequence[Case], options: argparse.Namespace) -> _Proof:
    """Both claims for each case: one that fails must not take the others with it."""
    proof = _Proof()
    context = BuildContext(torch.device("cuda"), torch.cuda.Stream(), options.cache, BuildStopwatch())
    try:
        shortest_pause_s = shortest_graphs_pause(context, options.samples)
    except TrtgateError as error:
        print(error, file=sys.stderr)
        proof.failures = {case.id: str(error) for case in cases}
        return proof
    for case in cases:
        print(f"{case.id} ...", file=sys.stderr)
        try:
            guarded(partial(_prove_case, case, options, context, shortest_pause_s, proof), case, "proof")
        except TrtgateError as error:
            print(error, file=sys.stderr)
            proof.failures[case.id] = str(error)
    return proof


def _prove_case(
    case: Case, options: argparse.Namespace, context: BuildContext, shortest_pause_s: float, proof: _Proof
) -> None:
    with tf32.scope(case.precision), _built(case, context) as runner:
        if case.backend is BackendName.TENSORRT_ENGINE and case.execution is Execution.STREAM:
            proof.costs.append(host_cost(case, runner, context, options.rounds))
        proof.agreements.append(agreement(case, runner, context, options.samples, shortest_pause_s))


def _built(case: Case, context: BuildContext) -> Runner:
    workload = workloads.get(case.workload, cache=context.cache)
    backend = backends.get(case.backend)
    inputs = workload.inputs(case.batch, case.sequence, 0)
    runner, _ = measure_build(lambda: backend.build(workload, case, context), inputs, context)
    return runner


if __name__ == "__main__":
    sys.exit(main())
