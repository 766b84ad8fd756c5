"""What ``trtgate bisect`` says while it works, on the standard error: each run builds an engine, and takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from trtgate.commands.shared import say, say_last
from trtgate.measure.timing import host_clock
from trtgate.report.figures import duration

if TYPE_CHECKING:
    from trtgate.measure.bisect_watch import Run, Watch


class Progress:
    """Tells of each run before it starts, with the time that the one before it took, and at last of all of them.

    Args:
        clock: seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float] = host_clock) -> None:
        self._clock = clock
        self._runs = 0
        self._in_runs_s = 0.0
        self._before = ""

    def doing(self, what: str) -> None:
        """Say what happens now, where it is no run of the candidate."""
        say(what)

    def watch(self, seed: int) -> Watch:
        """What is to be told of the runs on one batch."""

        def watched(run: Run) -> AbstractContextManager[None]:
            return self._watched(seed, run)

        return watched

    def finished(self) -> None:
        """Say how many runs there were, and how long they took."""
        if self._runs:
            say_last(f"{self._runs} {'run' if self._runs == 1 else 'runs'} took {_told(self._in_runs_s)}{self._before}")

    @contextmanager
    def _watched(self, seed: int, run: Run) -> Iterator[None]:
        tensors = "1 tensor" if run.shown == 1 else f"{run.shown} tensors"
        say(f"seed {seed}, run {run.number}: {run.doing}, {tensors} shown{self._before}")
        began_s = self._clock()
        yield
        took_s = self._clock() - began_s
        self._runs += 1
        self._in_runs_s += took_s
        self._before = f"; run {run.number} took {_told(took_s)}"


def _told(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
