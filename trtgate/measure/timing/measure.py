"""Several ways to build one model, measured in turns."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from trtgate.backends import cuda_device
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import L2, Execution, Quantity
from trtgate.errors import LostDeviceError
from trtgate.measure.device import Monitor
from trtgate.measure.timing.clock import HostClock, host_clock
from trtgate.measure.timing.rounds import Judge, Sample, checked, take_turns, warm_up
from trtgate.measure.timing.samplers import Sampler, calm
from trtgate.policy import MeasureSettings
from trtgate.record import Environment


@dataclass(frozen=True, slots=True)
class Participant:
    """Who takes turns.

    Attributes:
        runner: inputs bound; built with the context that is measured in.
        execution: graph asks for a captured runner.
    """

    runner: Runner
    execution: Execution


@dataclass(frozen=True, slots=True)
class Timing:
    """Samples of one quantity, seconds an inference.

    Attributes:
        samples_s: by participant; sample ``i`` of each was taken in round ``i``.
        host_bound: participants whose device time includes waiting for the host.
        failures: why a participant has no samples. The others were measured without it, or, where it took the GPU's
            context with it, failed for that reason.
        lost_by: the participant that took the context with it, None where it is alive.
        environment: state of the device meanwhile.
    """

    samples_s: dict[str, tuple[float, ...]]
    host_bound: frozenset[str]
    failures: dict[str, Exception]
    lost_by: str | None
    environment: Environment


class _ParticipantError(Exception):
    """Whose sample failed; never leaves this file."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


def measure(
    participants: Mapping[str, Participant],
    quantity: Quantity,
    settings: MeasureSettings,
    context: BuildContext,
    l2: L2,
    judge: Judge,
    seed: int,
    *,
    monitor: Monitor | None = None,
    clock: HostClock = host_clock,
) -> Timing:
    """Time one quantity of all participants, in turns, round by round.

    A participant that fails is left out, and the others are measured anew without it: what stood in its rounds has
    waited for it. The caller holds `trtgate.precision.tf32.scope` of the precision open, since PyTorch chooses its
    kernels at every call.

    Args:
        participants: by name.
        quantity: device, latency or throughput.
        settings: how long and how carefully.
        context: the device and the stream that every runner uses.
        l2: state of the L2 cache at the start of an inference.
        judge: told the samples so far; how much they say.
        seed: of the order of the turns.
        monitor: watches the device; by default NVML's view of the context's device.
        clock: the host's clock.

    Raises:
        MeasurementError: the device was throttled for too long.
    """
    failures: dict[str, Exception] = {}
    left = dict(participants)
    lost_by = None
    while left:
        try:
            samplers = {
                name: _sampler(name, participant, quantity, settings, context, l2, clock)
                for name, participant in left.items()
            }
            return _measured(samplers, failures, settings, context, judge, seed, monitor, clock)
        except _ParticipantError as failed:
            # A remembered error must not keep alive what its frames hold.
            traceback.clear_frames(failed.error.__traceback__)
            failures[failed.name] = failed.error
            del left[failed.name]
            if cuda_device.is_lost():
                lost_by = failed.name
                failures |= {name: _lost(failed.name) for name in left}
                break
    return Timing({}, frozenset(), failures, lost_by, Environment())


def _measured(
    samplers: Mapping[str, Sampler],
    failures: dict[str, Exception],
    settings: MeasureSettings,
    context: BuildContext,
    judge: Judge,
    seed: int,
    monitor: Monitor | None,
    clock: HostClock,
) -> Timing:
    samples = {name: _named(name, sampler.sample) for name, sampler in samplers.items()}
    with monitor or Monitor(context.device) as watch, calm(context):
        steady = warm_up(samples, settings, clock)
        order = random.Random(seed)  # noqa: S311 - an order that can be repeated, not a secret
        rounds = take_turns(samples, settings, watch, judge, order, clock, time.sleep)
        environment = watch.environment(
            kept_blocks=rounds.kept_blocks, discarded_blocks=rounds.discarded_blocks, steady=steady
        )
    host_bound = frozenset(name for name, sampler in samplers.items() if sampler.host_bound)
    return Timing(rounds.samples_s, host_bound, failures, None, environment)


def _sampler(
    name: str,
    participant: Participant,
    quantity: Quantity,
    settings: MeasureSettings,
    context: BuildContext,
    l2: L2,
    clock: HostClock,
) -> Sampler:
    runner, execution = participant.runner, participant.execution
    try:
        return Sampler(runner, quantity, settings, context, l2, execution, name=name, clock=clock)
    except Exception as error:  # a vendor's runner may raise anything
        raise _ParticipantError(name, error) from error


def _named(name: str, sample: Sample) -> Sample:
    def take() -> float:
        try:
            return checked(name, sample())
        except Exception as error:  # a vendor's runner may raise anything
            raise _ParticipantError(name, error) from error

    return take


def _lost(by: str) -> LostDeviceError:
    return LostDeviceError(
        f"The GPU's context was lost while '{by}' was measured beside it.", "Run again with --resume."
    )
