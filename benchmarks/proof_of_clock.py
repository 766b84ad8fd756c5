"""Proof that the clock tells the truth: two claims about trtgate.measure.timing, shown on a GPU.

    python -m benchmarks.proof_of_clock [CASE ...] [--json proof.json]

1. The runner costs nothing that matters: for TensorRT engines in stream execution, ``Runner.enqueue`` takes at most 10%
   more host time than a bare ``execute_async_v3`` on the same bound context (upper bound of the interval), and an
   inference allocates nothing, neither from PyTorch's allocator nor on the device.
2. Device time is the time that the device worked: for cases of 0.2 ms and more it agrees within 2% with the span from
   the first kernel's start to the last one's end that torch.profiler (CUPTI) reports for the very same inferences. What
   the same case takes without a profiler stands beside it.

Exit codes: 0 both hold; 1 one does not; 2 usage; 4 no GPU.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.profiled_spans import profiled, spans_of
from fixtures.guard import guarded
from trtgate.backends import registry as backends
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import BackendName, Case, Execution, Quantity
from trtgate.errors import MeasurementError, TrtgateError, UsageError
from trtgate.judge.stats import paired_ratio
from trtgate.measure.device import cuda_problem, identity
from trtgate.measure.memory import measure_build
from trtgate.measure.timing import BuildStopwatch, Sampler, calm, host_clock, timer_for
from trtgate.policy import MeasureSettings
from trtgate.precision import tf32
from trtgate.workloads import registry as workloads

MAX_HOST_RATIO: Final = 1.10
MAX_SPAN_ERROR: Final = 0.02
SHORTEST_SPAN_S: Final = 0.2e-3
DEFAULT_CASES: Final = (
    "simple_cnn-tensorrt_engine-fp16-b1-stream",
    "resnet18-tensorrt_engine-fp16-b8-stream",
    "resnet18-tensorrt_engine-fp16-b8-graph",
    "resnet18-eager-fp16-b8-stream",
    # As short as the claim goes: what an event pair adds weighs most here.
    "resnet18-tensorrt_engine-fp16-b1-graph",
    "mobilenet_v3_small-tensorrt_engine-fp16-b1-graph",
    "resnet50-tensorrt_engine-fp16-b8-graph",
    "resnet50-eager-fp32-b8-stream",
    "vit_b_16-eager-fp16-b8-graph",
)
_SPACER_S: Final = 0.05  # long enough for launches that a profiler slows down
_PROFILES: Final = 3
_CONFIDENCE: Final = 0.99
_CALLS: Final = 4  # a launch queue holds 1024 launches; four inferences of 200 kernels stay below it
_ALLOCATION_CALLS: Final = 100


@dataclass(frozen=True, slots=True)
class HostCost:
    """Host time of one ``enqueue`` against one bare ``execute_async_v3``."""

    case: str
    enqueue_s: float
    bare_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    allocations: int
    device_growth_bytes: int

    @property
    def holds(self) -> bool:
        """Whether the first claim holds."""
        return self.ratio_high <= MAX_HOST_RATIO and self.allocations == 0 and self.device_growth_bytes == 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Device time against the profiler's span, of the same inferences."""

    case: str
    device_s: float
    span_s: float
    error: float
    kernels: int
    unprofiled_s: float

    @property
    def judged(self) -> bool:
        """Whether the case is long enough for the claim to be about it."""
        return self.span_s >= SHORTEST_SPAN_S

    @property
    def holds(self) -> bool:
        """Whether the second claim holds, or says nothing about this case."""
        return not self.judged or abs(self.error) <= MAX_SPAN_ERROR


def host_cost(case: Case, runner: Runner, context: BuildContext, rounds: int) -> HostCost:
    """Time both calls in turns, each behind a spacer, so that neither waits for the device."""
    assert context.stream is not None
    timer = timer_for(context.stream)
    # The same context, stream and addresses; what is left out is exactly what the runner adds.
    execute, handle = runner._execution.execute_async_v3, context.stream.cuda_stream  # type: ignore[attr-defined]
    calls: dict[str, Callable[[], object]] = {"enqueue": runner.enqueue, "bare": partial(execute, handle)}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    rng = random.Random(0)  # noqa: S311 - an order that can be repeated, not a secret
    with calm(context):
        for _ in range(rounds):
            rng.shuffle(order)
            for name in order:
                call = calls[name]
                timer.hold(_SPACER_S / 10)
                began_s = host_clock()
                for _ in range(_CALLS):
                    call()
                taken[name].append((host_clock() - began_s) / _CALLS)
                context.stream.synchronize()
        allocations, growth = _allocated_by(runner, context)
    ratio = paired_ratio(taken["bare"], taken["enqueue"], _CONFIDENCE)
    enqueue_s, bare_s = statistics.median(taken["enqueue"]), statistics.median(taken["bare"])
    return HostCost(case.id, enqueue_s, bare_s, ratio.estimate, ratio.low, ratio.high, allocations, growth)


def _allocated_by(runner: Runner, context: BuildContext) -> tuple[int, int]:
    """Allocations in PyTorch's allocator, and growth of the device's used memory, over many inferences."""

    def state() -> tuple[int, int]:
        torch.cuda.synchronize(context.device)
        free, _ = torch.cuda.mem_get_info(context.device)
        return torch.cuda.memory_stats(context.device)["allocation.all.allocated"], free

    runner.enqueue()
    count, free = state()
    for _ in range(_ALLOCATION_CALLS):
        runner.enqueue()
    count_after, free_after = state()
    return count_after - count, free - free_after


def agreement(case: Case, runner: Runner, context: BuildContext, samples: int) -> Agreement:
    """Take device-time samples inside a profile, and the same without one."""
    settings = MeasureSettings(spacer_seconds=_SPACER_S, max_spacer_seconds=_SPACER_S)
    sampler = Sampler(runner, Quantity.DEVICE, settings, context, execution=case.execution)
    sampler.warm_up()
    unprofiled_s = sampler.sample_block(samples)
    profiled(sampler, 1)  # the first profile of a process loads CUPTI, which disturbs
    for _ in range(_PROFILES):
        device_s, trace = profiled(sampler, samples)
        if sampler.host_bound:
            raise MeasurementError(
                f"{case.id} cannot be queued behind a spacer of {_SPACER_S} s.", "Choose a smaller case."
            )
        # A sample whose launches came too late is taken again and leaves a span too many: profile anew.
        spans = spans_of(trace)
        if len(spans) == len(device_s):
            break
    else:
        raise MeasurementError(f"The profiles of {case.id} show retaken samples.", "Run again on an idle machine.")
    errors = [device / span - 1 for device, (span, _) in zip(device_s, spans, strict=True)]
    return Agreement(
        case.id,
        statistics.median(device_s),
        statistics.median(span for span, _ in spans),
        statistics.median(errors),
        spans[0][1],
        statistics.median(unprofiled_s),
    )


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
        "case", "device ms", "profiler ms", "error", "kernels", "unprofiled ms", "holds", title="2. Device time"
    )
    for found in agreements:
        device.add_row(
            found.case,
            f"{found.device_s * 1e3:.4f}",
            f"{found.span_s * 1e3:.4f}",
            f"{found.error:+.2%}",
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
    costs, agreements, failures = _prove(cases, options)
    console = Console()
    for table in _tables(costs, agreements):
        console.print(table)
    holds = not failures and all(cost.holds for cost in costs) and all(found.holds for found in agreements)
    judged = bool(costs) and any(found.judged for found in agreements)
    console.print("Both claims hold." if holds and judged else "NOT shown: see the tables.")
    if options.json is not None:
        figures = {
            "identity": identity().model_dump(),
            "host_cost": [*map(asdict, costs)],
            "device_time": [*map(asdict, agreements)],
            "failures": failures,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if holds and judged else 1


def _prove(
    cases: Sequence[Case], options: argparse.Namespace
) -> tuple[list[HostCost], list[Agreement], dict[str, str]]:
    """What both claims found, and why a case says nothing: one that fails must not take the others with it."""
    costs: list[HostCost] = []
    agreements: list[Agreement] = []
    failures: dict[str, str] = {}
    context = BuildContext(torch.device("cuda"), torch.cuda.Stream(), options.cache, BuildStopwatch())
    for case in cases:
        print(f"{case.id} ...", file=sys.stderr)
        try:
            guarded(partial(_prove_case, case, options, context, costs, agreements), case, "proof")
        except TrtgateError as error:
            print(error, file=sys.stderr)
            failures[case.id] = str(error)
    return costs, agreements, failures


def _prove_case(
    case: Case, options: argparse.Namespace, context: BuildContext, costs: list[HostCost], agreements: list[Agreement]
) -> None:
    with tf32.scope(case.precision), _built(case, context) as runner:
        if case.backend is BackendName.TENSORRT_ENGINE and case.execution is Execution.STREAM:
            costs.append(host_cost(case, runner, context, options.rounds))
        agreements.append(agreement(case, runner, context, options.samples))


def _built(case: Case, context: BuildContext) -> Runner:
    workload = workloads.get(case.workload, cache=context.cache)
    backend = backends.get(case.backend)
    inputs = workload.inputs(case.batch, case.sequence, 0)
    runner, _ = measure_build(lambda: backend.build(workload, case, context), inputs, context)
    return runner


if __name__ == "__main__":
    sys.exit(main())
