"""Device time against the span of kernels that torch.profiler (CUPTI) reports for the very same inferences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.profiled_spans import Span, profiled, spans_of
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import Case, Execution, Quantity
from trtgate.errors import MeasurementError
from trtgate.measure.timing import Sampler
from trtgate.policy import MeasureSettings

MAX_SPAN_ERROR: Final = 0.02
SHORTEST_SPAN_S: Final = 0.2e-3
_SPACER_S: Final = 0.15  # long enough for 350 launches that a profiler slows down
_PROFILES: Final = 3


@dataclass(frozen=True, slots=True)
class Agreement:
    """Device time against the profiler's span, of the same inferences. Medians, in seconds.

    Attributes:
        case: its id.
        device_s: what trtgate measured, in the profile.
        span_s: from the first kernel's start to the last one's end, by the profiler.
        error: of ``device_s`` against ``span_s``, relative.
        kernels: of one inference.
        unprofiled_s: what trtgate measures without a profiler, which slows kernels down and never speeds them up.
        pause_s: before the first kernel, after the last one of the inference before, by the profiler.
        added_s: how much of that pause is the profiler's own: of a CUDA graph, what exceeds the pause of the shortest
            graph there is (ADR 11).
        unexplained_s: what two events read, less pause and span.
        empty_pair_s: what two events with nothing between them read; ``device_s`` is without it.
        shortest_pause_s: before the kernel of the shortest graph, by the profiler.
    """

    case: str
    device_s: float
    span_s: float
    error: float
    kernels: int
    unprofiled_s: float
    pause_s: float
    added_s: float
    unexplained_s: float
    empty_pair_s: float
    shortest_pause_s: float

    @property
    def clock_error(self) -> float:
        """The relative error without what the profiler added."""
        return self.error - self.added_s / self.span_s

    @property
    def judged(self) -> bool:
        """Whether the case is long enough for the claim to be about it."""
        return self.span_s >= SHORTEST_SPAN_S

    @property
    def holds(self) -> bool:
        """Whether the claim holds, or says nothing about this case.

        What is added to a graph is not the profiler's where it is there without a profiler, too.
        """
        bounded = self.unprofiled_s <= (1 + MAX_SPAN_ERROR) * self.span_s
        return not self.judged or (bounded and abs(self.clock_error) <= MAX_SPAN_ERROR)

    @property
    def holds_as_profiled(self) -> bool:
        """Whether it also holds with the profiler's own pause counted against the clock."""
        return not self.judged or abs(self.error) <= MAX_SPAN_ERROR


def agreement(case: Case, runner: Runner, context: BuildContext, samples: int, shortest_pause_s: float) -> Agreement:
    """Take device-time samples inside a profile, and the same without one.

    Args:
        case: what the runner was built for.
        runner: bound and ready.
        context: what it was built with.
        samples: profiled inferences.
        shortest_pause_s: see `shortest_graphs_pause`.

    Raises:
        MeasurementError: the inferences cannot be queued behind the spacer, or cannot be told apart in the trace.
    """
    sampler = _sampler(runner, context, case.execution)
    sampler.warm_up()
    unprofiled_s = sampler.sample_block(samples)
    device_s, spans = _profiled(case.id, sampler, samples)
    pairs = list(zip(device_s, spans, strict=True))
    pause_s = statistics.median(span.pause_s for span in spans)
    added_s = max(0.0, pause_s - shortest_pause_s) if case.execution is Execution.GRAPH else 0.0
    empty_pair_s = sampler.empty_pair_s or 0.0
    return Agreement(
        case=case.id,
        device_s=statistics.median(device_s),
        span_s=statistics.median(span.seconds for span in spans),
        error=statistics.median(device / span.seconds - 1 for device, span in pairs),
        kernels=spans[0].kernels,
        unprofiled_s=statistics.median(unprofiled_s),
        pause_s=pause_s,
        added_s=added_s,
        unexplained_s=statistics.median(device + empty_pair_s - span.pause_s - span.seconds for device, span in pairs),
        empty_pair_s=empty_pair_s,
        shortest_pause_s=shortest_pause_s,
    )


def shortest_graphs_pause(context: BuildContext, samples: int) -> float:
    """Seconds before the kernel of a CUDA graph of one kernel on one element, in a profile; the median."""
    with _Tick(context) as tick:
        sampler = _sampler(tick, context, Execution.STREAM)
        sampler.warm_up()
        _, spans = _profiled("The shortest graph", sampler, samples)
    return statistics.median(span.pause_s for span in spans)


def _sampler(runner: Runner, context: BuildContext, execution: Execution) -> Sampler:
    settings = MeasureSettings(spacer_seconds=_SPACER_S, max_spacer_seconds=_SPACER_S)
    return Sampler(runner, Quantity.DEVICE, settings, context, execution=execution)


def _profiled(name: str, sampler: Sampler, samples: int) -> tuple[tuple[float, ...], list[Span]]:
    profiled(sampler, 1)  # the first profile of a process loads CUPTI, which disturbs
    for _ in range(_PROFILES):
        device_s, trace = profiled(sampler, samples)
        if sampler.host_bound:
            raise MeasurementError(
                f"{name} cannot be queued behind a spacer of {_SPACER_S} s.", "Choose a smaller case."
            )
        # A sample whose launches came too late is taken again and leaves a span too many: profile anew.
        spans = spans_of(trace)
        if len(spans) == len(device_s):
            return device_s, spans
    raise MeasurementError(f"The profiles of {name} show retaken samples.", "Run again on an idle machine.")


class _Tick(Runner):
    """A CUDA graph of one kernel on one element."""

    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self._element = torch.zeros(1, device=context.device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(context.stream):
            self._element.add_(1)  # the first launch loads the kernel, which cannot be captured
            torch.cuda.synchronize(context.device)
            with torch.cuda.graph(self._graph, stream=context.stream):
                self._element.add_(1)

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """It has none."""

    def enqueue(self) -> None:
        """Replay the graph."""
        self._graph.replay()

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The element."""
        return (self._element,)

    def close(self) -> None:
        """Give the graph back."""
        self._graph.reset()
