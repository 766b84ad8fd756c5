"""The device's clock: CUDA events on the measured stream, behind a kernel that holds it.

An event pair round work that is launched to an idle GPU times the host: each kernel ends before the next is launched.
So a spacer kernel occupies the stream until everything, the closing event included, is queued; then the device runs it
back to back, and the events see only the device. Method: NVBench's blocking kernel, with a spin of fixed length in its
place, which cannot deadlock when the launch queue is full.

Two events with nothing between them are not read as nothing, since the device works on each: on H100s 1.2 to 3 us, and
the same each time. That much is taken off every reading, as a balance is set to zero with its empty dish (ADR 11).
"""

from __future__ import annotations

import statistics
from functools import cache, cached_property
from typing import Any, Protocol

import torch

from trtgate.errors import MeasurementError

_cuda: Any = torch.cuda  # events and _sleep have no type annotations
_CALIBRATION_CYCLES = 5_000_000
_CALIBRATION_ROUNDS = 3
_EMPTY_PAIRS = 25
_EMPTY_PAIR_TRIES = 100
_EMPTY_PAIR_SPACERS_S = 0.5e-3, 16e-3  # the first, which doubles while the host is too late, and the longest
_L2_TIMES = 2  # a buffer of exactly the cache's size leaves lines alive under any policy but strict LRU


class DeviceTimer(Protocol):
    """Events on one stream. `CudaTimer` is the real one."""

    @property
    def empty_pair_s(self) -> float:
        """Seconds that two events with nothing between them are apart."""
        ...

    def hold(self, seconds: float) -> None:
        """Queue a kernel that occupies the stream for about this long."""
        ...

    def flush_l2(self) -> None:
        """Queue writes that leave nothing of earlier work in the L2 cache."""
        ...

    def start(self) -> None:
        """Queue the event that opens the timed span."""
        ...

    def stop(self) -> None:
        """Queue the event that closes the timed span."""
        ...

    def started(self) -> bool:
        """Whether the device has already passed the opening event. Does not wait."""
        ...

    def elapsed_s(self) -> float:
        """Wait for the closing event; seconds between the two, less those of an empty pair."""
        ...


class CudaTimer:
    """Two CUDA events and a spacer on a stream, made once and used for every sample: nothing is allocated in the loop.

    Resolution of an event is about 0.5 us (CUDA Runtime API, cudaEventElapsedTime).

    Args:
        stream: where the measured work is enqueued.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._opening = _cuda.Event(enable_timing=True)
        self._closing = _cuda.Event(enable_timing=True)
        self._l2_buffer: torch.Tensor | None = None
        self.cycles_per_s = self._calibrate_spacer()

    @cached_property
    def empty_pair_s(self) -> float:
        """Seconds that two events with nothing between them are apart, as measured when it is first asked for.

        It is the median of pairs that were queued behind a spacer, as a sample is.

        Raises:
            MeasurementError: the host never queued two events before the device came to the first.
        """
        readings: list[float] = []
        spacer_s, longest_s = _EMPTY_PAIR_SPACERS_S
        for _ in range(_EMPTY_PAIR_TRIES):
            self.hold(spacer_s)
            self.start()
            self.stop()
            queued = not self.started()
            reading_s = self._read_s()
            if queued:
                readings.append(reading_s)
            else:
                spacer_s = min(2 * spacer_s, longest_s)
            if len(readings) == _EMPTY_PAIRS:
                break
        if not readings:
            raise MeasurementError(
                f"In {_EMPTY_PAIR_TRIES} tries the host took longer than {longest_s * 1e3:.0f} ms to queue two CUDA "
                "events.",
                "Free the host of other work, and unset CUDA_LAUNCH_BLOCKING: device times could not be told from it.",
            )
        return statistics.median(readings)

    def hold(self, seconds: float) -> None:
        """Queue a kernel that spins for about ``seconds``; longer where the clocks are below their calibrated rate."""
        with torch.cuda.stream(self._stream):
            _cuda._sleep(max(1, int(seconds * self.cycles_per_s)))

    def flush_l2(self) -> None:
        """Queue a memset over twice the L2 cache."""
        with torch.cuda.stream(self._stream), torch.inference_mode(False):
            if self._l2_buffer is None:
                properties = torch.cuda.get_device_properties(self._stream.device)
                size_bytes = _L2_TIMES * int(properties.L2_cache_size)
                self._l2_buffer = torch.empty(size_bytes, dtype=torch.uint8, device=self._stream.device)
            self._l2_buffer.zero_()

    def start(self) -> None:
        """Record the opening event."""
        self._opening.record(self._stream)

    def stop(self) -> None:
        """Record the closing event."""
        self._closing.record(self._stream)

    def started(self) -> bool:
        """Whether the opening event has completed."""
        return bool(self._opening.query())

    def elapsed_s(self) -> float:
        """Wait for the closing event; seconds between the two, less those of an empty pair."""
        return self._read_s() - self.empty_pair_s

    def _read_s(self) -> float:
        """Wait for the closing event; seconds between the two, as CUDA tells them."""
        self._closing.synchronize()
        return float(self._opening.elapsed_time(self._closing)) * 1e-3

    def _calibrate_spacer(self) -> float:
        """Spin cycles a second, at the fastest that the clocks reached: the spacer is then never too short."""
        rates = []
        with torch.cuda.stream(self._stream):
            _cuda._sleep(1)  # the first launch loads the kernel
            for _ in range(_CALIBRATION_ROUNDS):
                self.start()
                _cuda._sleep(_CALIBRATION_CYCLES)
                self.stop()
                rates.append(_CALIBRATION_CYCLES / self._read_s())
        return max(rates)


@cache
def timer_for(stream: torch.cuda.Stream) -> CudaTimer:
    """The stream's timer, calibrated once a process."""
    return CudaTimer(stream)
