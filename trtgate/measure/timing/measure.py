"""Several ways to build one model, measured in turns."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from trtgate.backends import cuda_device
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import L2, Execution, Quantity
from trtgate.errors import LostDeviceError
from trtgate.measure.device import Monitor
from trtgate.measure.timing.clock import HostClock, host_clock
from trtgate.measure.timing.rounds import Judge, checked, take_turns, warm_up
from trtgate.measure.timing.samplers import Sampler, calm
from trtgate.policy import MeasureSettings
from trtgate.record import Environment

_Result = TypeVar("_Result")


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


class Slot(Protocol):
    """A place for a small number, such as a byte of memory that outlives the process."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set it."""
        ...


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
    turn: Slot | None = None,
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
        turn: its first item says which participant is being called, counted from 1, and 0 between them: the answer
            that is left where one of them kills the process.

    Raises:
        MeasurementError: the device was throttled for too long.
    """
    called = bytearray(1) if turn is None else turn
    numbers = {name: number for number, name in enumerate(participants, start=1)}
    failures: dict[str, Exception] = {}
    left = dict(participants)
    lost_by = None
    while left:
        try:
            makers = {
                name: partial(
                    Sampler, one.runner, quantity, settings, context, l2, one.execution, name=name, clock=clock
                )
                for name, one in left.items()
            }
            samplers = {name: _in_turn(name, numbers[name], called, make)() for name, make in makers.items()}
            samples = {name: _in_turn(name, numbers[name], called, _taker(samplers[name])) for name in samplers}
            return _measured(samplers, samples, failures, settings, context, judge, seed, monitor, clock)
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
    samples: Mapping[str, Callable[[], float]],
    failures: dict[str, Exception],
    settings: MeasureSettings,
    context: BuildContext,
    judge: Judge,
    seed: int,
    monitor: Monitor | None,
    clock: HostClock,
) -> Timing:
    with monitor or Monitor(context.device) as watch, calm(context):
        steady = warm_up(samples, settings, clock)
        order = random.Random(seed)  # noqa: S311 - an order that can be repeated, not a secret
        rounds = take_turns(samples, settings, watch, judge, order, clock, time.sleep)
        environment = watch.environment(
            kept_blocks=rounds.kept_blocks, discarded_blocks=rounds.discarded_blocks, steady=steady
        )
    # They share the stream's timer.
    empty_pair_s = next(iter(samplers.values())).empty_pair_s
    environment = environment.model_copy(update={"empty_pair_s": empty_pair_s})
    host_bound = frozenset(name for name, sampler in samplers.items() if sampler.host_bound)
    return Timing(rounds.samples_s, host_bound, failures, None, environment)


def _taker(sampler: Sampler) -> Callable[[], float]:
    return lambda: checked(sampler.name, sampler.sample())


def _in_turn(name: str, number: int, called: Slot, work: Callable[[], _Result]) -> Callable[[], _Result]:
    """A participant's work, which says whose turn it is, and whose fault an error is."""

    def turn() -> _Result:
        called[0] = number
        try:
            return work()
        except Exception as error:  # a vendor's runner may raise anything
            raise _ParticipantError(name, error) from error
        finally:
            called[0] = 0

    return turn


def _lost(by: str) -> LostDeviceError:
    return LostDeviceError(
        f"The GPU's context was lost while '{by}' was measured beside it.", "Run again with --resume."
    )
