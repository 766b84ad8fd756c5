"""The host's clock, and the stopwatch for the stages of a build."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

HostClock: TypeAlias = Callable[[], float]
"""Returns seconds since some fixed moment; never goes back."""

host_clock: HostClock = time.perf_counter


class BuildStopwatch:
    """Times the stages of a build; the `trtgate.backends.base.Stopwatch` that measuring passes in.

    A stage that runs inside another is counted in both. A stage that is entered twice adds up. A stage that ends with
    an exception is counted too, because a failed build also took its time.

    Attributes:
        seconds: wall time of each stage so far, in the order in which the stages were first entered.
    """

    def __init__(self, clock: HostClock = host_clock) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body as the stage ``name``."""
        self.seconds.setdefault(name, 0.0)
        began = self._clock()
        try:
            yield
        finally:
            self.seconds[name] += self._clock() - began
