"""One runner and one quantity: what a single sample is."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Iterator
from typing import Protocol

from trtgate.backends.base import BuildContext, Runner
from trtgate.backends.cuda_device import device_memory_of
from trtgate.case import L2, Execution, Quantity
from trtgate.errors import CaptureError, MeasurementError
from trtgate.measure.placement import on_stream
from trtgate.measure.timing.clock import HostClock, host_clock
from trtgate.measure.timing.events import DeviceTimer, timer_for
from trtgate.measure.timing.rounds import checked, warm_up
from trtgate.policy import MeasureSettings

_TRIES_AT_LONGEST_SPACER = 3  # one hiccup of the host's scheduler is not a property of the runner
_CALIBRATION_ATTEMPTS = 8


@contextlib.contextmanager
def calm(context: BuildContext) -> Iterator[None]:
    """Conditions under which samples are taken: no garbage collection, no autograd, the context's stream current.

    Collection is switched off, not run first: a full pass over torch's heap takes a tenth of a second a measurement.

    Raises:
        OutOfDeviceMemoryError: the body ran out of device memory.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with device_memory_of("A measurement"), on_stream(context):
            yield
    finally:
        if collecting:
            gc.enable()


def require_captured(name: str, runner: Runner, execution: Execution) -> None:
    """Check that a runner which is measured as a CUDA graph replays one.

    Raises:
        CaptureError: it does not.
    """
    if execution is Execution.GRAPH and not runner.facts.captured:
        raise CaptureError(
            f"'{name}' is measured as a CUDA graph and was not captured.",
            "Measure it with stream execution, or mend the capture: its timing would carry a wrong name.",
        )


class _Method(Protocol):
    """How one sample of a quantity is taken."""

    host_bound: bool

    def take(self) -> float:
        """Seconds an inference."""
        ...


class Sampler:
    """Takes samples of one quantity of one runner, whose inputs are bound.

    Args:
        runner: bound and ready.
        quantity: device, latency or throughput.
        settings: how carefully.
        context: the device and stream that the runner was built with.
        l2: state of the L2 cache at the start of an inference.
        execution: graph asks for a captured runner.
        name: of the runner, for messages.
        timer: events on the context's stream; by default the stream's own, calibrated once a process.
        clock: the host's clock.

    Attributes:
        name: of the runner.
        empty_pair_s: of device time, what the clock reads where nothing is timed; every sample is without it.

    Raises:
        CaptureError: a graph was asked for and not captured.
        MeasurementError: the quantity does not exist here: device time or a cold L2 without a GPU, throughput with a
            cold L2 (flushing between the inferences of a burst would be timed with them), or not a time at all.
    """

    def __init__(
        self,
        runner: Runner,
        quantity: Quantity,
        settings: MeasureSettings,
        context: BuildContext,
        l2: L2 = L2.WARM,
        execution: Execution = Execution.STREAM,
        *,
        name: str = "runner",
        timer: DeviceTimer | None = None,
        clock: HostClock = host_clock,
    ) -> None:
        require_captured(name, runner, execution)
        if timer is None and context.stream is not None:
            timer = timer_for(context.stream)
        self.name = name
        self._settings = settings
        self._context = context
        self._clock = clock
        self.empty_pair_s = timer.empty_pair_s if timer is not None and quantity is Quantity.DEVICE else None
        self._method = _method(runner, quantity, settings, context, l2, timer, clock)

    @property
    def host_bound(self) -> bool:
        """Whether a sample of device time had to be kept although the device had waited for the host."""
        return self._method.host_bound

    def sample(self) -> float:
        """Take one sample, seconds an inference, as it is. To be called inside `calm`."""
        return self._method.take()

    def warm_up(self) -> bool:
        """Run until medians are steady, or until time is up.

        Returns:
            Whether they became steady.

        Raises:
            MeasurementError: a sample was not a positive number of seconds.
        """
        with calm(self._context):
            return warm_up({self.name: self.sample}, self._settings, self._clock)

    def sample_block(self, count: int) -> tuple[float, ...]:
        """Take a block of samples, seconds an inference each.

        Raises:
            MeasurementError: a sample was not a positive number of seconds.
        """
        with calm(self._context):
            return tuple(checked(self.name, self.sample()) for _ in range(count))


class _DeviceTime:
    """GPU time between events, with the work queued behind a spacer kernel.

    That it was queued is checked, not assumed: when `Runner.enqueue` has returned and the closing event is recorded,
    the device must not have passed the opening event. Otherwise the spacer is doubled and the sample taken again. At
    the longest spacer the sample is kept and ``host_bound`` says that its time includes the host's launches.
    """

    def __init__(self, runner: Runner, settings: MeasureSettings, timer: DeviceTimer, l2: L2) -> None:
        self.host_bound = False
        self._runner = runner
        self._timer = timer
        self._cold = l2 is L2.COLD
        self._longest_s = settings.max_spacer_seconds
        self._spacer_s = min(settings.spacer_seconds, self._longest_s)

    def take(self) -> float:
        """Seconds of device time of one inference."""
        tries_left = 1 if self.host_bound else _TRIES_AT_LONGEST_SPACER
        while True:
            queued = self._run_behind_spacer()
            elapsed_s = self._timer.elapsed_s()
            if queued:
                return elapsed_s
            if self._spacer_s < self._longest_s:
                self._spacer_s = min(2 * self._spacer_s, self._longest_s)
                continue
            tries_left -= 1
            if tries_left == 0:
                self.host_bound = True
                return elapsed_s

    def _run_behind_spacer(self) -> bool:
        """One inference; whether all of it was queued before the device came to its opening event."""
        self._timer.hold(self._spacer_s)
        if self._cold:
            self._timer.flush_l2()
        else:
            self._runner.enqueue()  # not timed: brings weights and activations into L2 and the clocks up
        self._timer.start()
        self._runner.enqueue()
        self._timer.stop()
        return not self._timer.started()


class _Latency:
    """Host clock round one inference and its synchronisation, after an untimed one of the same runner."""

    host_bound = False

    def __init__(
        self, runner: Runner, context: BuildContext, flush_l2: Callable[[], None] | None, clock: HostClock
    ) -> None:
        self._runner = runner
        self._synchronise = _wait_for(context)
        self._flush_l2 = flush_l2
        self._clock = clock

    def take(self) -> float:
        """Seconds that a caller waits for one inference."""
        self._runner.enqueue()
        if self._flush_l2 is not None:
            self._flush_l2()
        self._synchronise()
        began_s = self._clock()
        self._runner.enqueue()
        self._synchronise()
        return self._clock() - began_s


class _Throughput:
    """Host seconds an inference in a burst that is queued back to back, then waited for once.

    The burst's length is set at the first sample, so that it lasts ``settings.throughput_seconds``, and kept.
    """

    host_bound = False

    def __init__(self, runner: Runner, settings: MeasureSettings, context: BuildContext, clock: HostClock) -> None:
        self._runner = runner
        self._synchronise = _wait_for(context)
        self._shortest_s = settings.throughput_seconds
        self._fewest = settings.min_burst_cpu if context.stream is None else settings.min_burst
        self._burst: int | None = None
        self._clock = clock

    def take(self) -> float:
        """Seconds an inference, mean over one burst."""
        if self._burst is None:
            self._burst = self._calibrate()
        return self._seconds_of(self._burst) / self._burst

    def _seconds_of(self, inferences: int) -> float:
        began_s = self._clock()
        for _ in range(inferences):
            self._runner.enqueue()
        self._synchronise()
        return self._clock() - began_s

    def _calibrate(self) -> int:
        burst = self._fewest
        for _ in range(_CALIBRATION_ATTEMPTS):
            taken_s = checked("a burst", self._seconds_of(burst))
            if taken_s >= self._shortest_s:
                break
            # A first burst may be slow for reasons of its own; growing at most tenfold a step does not overshoot.
            burst = min(10 * burst, math.ceil(1.1 * burst * self._shortest_s / taken_s))
        return burst


def _method(
    runner: Runner,
    quantity: Quantity,
    settings: MeasureSettings,
    context: BuildContext,
    l2: L2,
    timer: DeviceTimer | None,
    clock: HostClock,
) -> _Method:
    if timer is None and (quantity is Quantity.DEVICE or l2 is L2.COLD):
        asked = "Device time" if quantity is Quantity.DEVICE else "A cold L2 cache"
        raise MeasurementError(
            f"{asked} was asked for on the device '{context.device}'.", "Use a GPU, or leave it out."
        )
    if quantity is Quantity.DEVICE and timer is not None:
        return _DeviceTime(runner, settings, timer, l2)
    if quantity is Quantity.LATENCY:
        return _Latency(runner, context, timer.flush_l2 if timer is not None and l2 is L2.COLD else None, clock)
    if quantity is Quantity.THROUGHPUT and l2 is L2.WARM:
        return _Throughput(runner, settings, context, clock)
    raise MeasurementError(
        f"There is no timing of '{quantity}' with a {l2} L2 cache.",
        "Time device or latency, or throughput with a warm cache.",
    )


def _wait_for(context: BuildContext) -> Callable[[], None]:
    """Waits for the context's stream; on the CPU an inference has ended when `Runner.enqueue` returns."""
    return context.stream.synchronize if context.stream is not None else lambda: None
