"""What a runner costs the host: one ``enqueue`` against one bare ``execute_async_v3`` of the same TensorRT engine."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch

from trtgate.backends.base import BuildContext, Runner
from trtgate.case import Case
from trtgate.judge.stats import paired_ratio
from trtgate.measure.timing import calm, host_clock, timer_for

MAX_HOST_RATIO: Final = 1.10
_SPACER_S: Final = 5e-3
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
                timer.hold(_SPACER_S)
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
