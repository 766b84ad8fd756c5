"""A real slowdown of known size, to measure what the gate can see.

A gate that has never seen a regression is a gate whose power nobody knows. `Lengthened` wraps a runner so that every
inference is followed by a kernel that only spins, on the same stream and, for a graphed case, captured into the same
CUDA graph as the model. How much longer an inference takes is not computed from the units but measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trtgate.backends.base import Runner
from trtgate.backends.cuda_graph import CapturedGraph, capture
from trtgate.case import Case, Execution


class Lengthened(Runner):
    """A runner followed by a busy kernel.

    Both sides of a power measurement use it, the clean one with 0 units, so that they differ in the kernel alone:
    without units nothing is enqueued. Several of them may share one inner runner, so that they differ in nothing else.

    Args:
        inner: a runner in stream execution; whoever built it closes it, after this one.
        case: what is measured; where its execution is a graph, model and busy kernel are captured into one.
        units: clock cycles of the GPU, or turns of an empty loop on the CPU; 0 for none.
        stream: the CUDA stream that ``inner`` computes on; None on the CPU.
    """

    def __init__(self, inner: Runner, case: Case, units: int, stream: torch.cuda.Stream | None) -> None:
        super().__init__()
        self._inner = inner
        self._case = case
        self._units = units
        self._stream = stream
        self._graph: CapturedGraph | None = None
        self.facts = inner.facts

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Bind the inner runner and capture a graph case anew.

        Raises:
            CaptureError: the inference cannot be captured.
        """
        self._inner.bind(inputs)
        if self._case.execution is not Execution.GRAPH:
            return
        if self._graph is not None:
            self._graph.close()

        def run() -> tuple[torch.Tensor, ...]:
            self._run()
            return self._inner.outputs()

        with torch.inference_mode():
            self._graph = capture(run, self._stream, self._case.id)
        self.facts.captured = True

    def enqueue(self) -> None:
        """One inference and the busy kernel, as two launches or as one replay, on the current stream."""
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The inner runner's outputs; of a graph, what its replays write."""
        return self._inner.outputs() if self._graph is None else self._graph.outputs

    def close(self) -> None:
        """Give the graph back."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _run(self) -> None:
        self._inner.enqueue()
        if self._stream is not None and self._units:
            torch.cuda._sleep(self._units)  # type: ignore[no-untyped-call]
        elif self._units:
            for _ in range(self._units):
                pass
