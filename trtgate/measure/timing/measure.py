"""A candidate and its baselines, measured in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trtgate.backends.base import BuildContext, Runner
from trtgate.case import L2, Execution, Quantity
from trtgate.measure.device import Monitor
from trtgate.measure.timing.clock import HostClock, host_clock
from trtgate.measure.timing.rounds import take_turns, warm_up
from trtgate.measure.timing.samplers import Sampler, calm
from trtgate.policy import MeasureSettings
from trtgate.record import Environment

_CANDIDATE = "candidate"
_GRAPH_SUFFIX = "_graph"


@dataclass(frozen=True, slots=True)
class Timing:
    """Samples of one quantity, seconds an inference.

    Attributes:
        samples_s: the candidate's, in the order in which they were taken.
        baselines_s: by baseline; sample ``i`` was taken in the same round as sample ``i`` of the candidate.
        environment: state of the device meanwhile.
    """

    samples_s: tuple[float, ...]
    baselines_s: dict[str, tuple[float, ...]]
    environment: Environment


def measure(
    candidate: Runner,
    baselines: Mapping[str, Runner],
    quantity: Quantity,
    settings: MeasureSettings,
    context: BuildContext,
    l2: L2,
    settled: Callable[[Sequence[float], Mapping[str, Sequence[float]]], bool],
    seed: int,
    *,
    execution: Execution = Execution.STREAM,
    monitor: Monitor | None = None,
    clock: HostClock = host_clock,
) -> Timing:
    """Time one quantity of a candidate and its baselines, in turns, round by round.

    The caller holds `trtgate.precision.tf32.scope` of the precision open: PyTorch chooses its kernels at every call.

    Args:
        candidate: inputs bound; built with ``context``.
        baselines: likewise, by name. A baseline whose name ends in ``_graph`` must be a captured CUDA graph.
        quantity: device, latency or throughput.
        settings: how long and how carefully.
        context: the device and the stream that every runner uses.
        l2: state of the L2 cache at the start of an inference.
        settled: told the candidate's and the baselines' samples so far; whether they suffice.
        seed: of the order of the turns.
        execution: of the candidate; graph asks for a captured one.
        monitor: watches the device; by default NVML's view of the context's device.
        clock: the host's clock.

    Raises:
        CaptureError: a graph was asked for and not captured.
        MeasurementError: the quantity does not exist here, a sample is not a time, or the device was throttled for
            too long.
    """
    if _CANDIDATE in baselines:
        raise ValueError(f"a baseline cannot be called '{_CANDIDATE}'")
    samplers = {
        name: Sampler(runner, quantity, settings, context, l2, executed, name=name, clock=clock)
        for name, runner, executed in (
            (_CANDIDATE, candidate, execution),
            *((name, runner, _execution_of(name)) for name, runner in baselines.items()),
        )
    }
    samples = {name: sampler.sample for name, sampler in samplers.items()}
    with monitor or Monitor(context.device) as watch, calm(context):
        steady = warm_up(samples, settings, clock)
        rounds = take_turns(
            samples,
            settings,
            watch,
            lambda taken: settled(taken[_CANDIDATE], {name: taken[name] for name in baselines}),
            random.Random(seed),  # noqa: S311 - an order that can be repeated, not a secret
            clock,
            time.sleep,
        )
        environment = watch.environment(
            kept_blocks=rounds.kept_blocks,
            discarded_blocks=rounds.discarded_blocks,
            host_bound=samplers[_CANDIDATE].host_bound,
            host_bound_baselines=tuple(name for name in baselines if samplers[name].host_bound),
            steady=steady,
        )
    return Timing(rounds.samples_s[_CANDIDATE], {name: rounds.samples_s[name] for name in baselines}, environment)


def _execution_of(baseline: str) -> Execution:
    return Execution.GRAPH if baseline.endswith(_GRAPH_SUFFIX) else Execution.STREAM
