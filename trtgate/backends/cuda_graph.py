"""Captures a function into a CUDA graph and proves that its replay does the work.

PyTorch's own graph object is used for every backend: vendors' graph modes are global to a process, copy inputs and
outputs, and some do not tell whether they captured anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import torch

from trtgate.backends.cuda_device import forget_cublas_workspaces, is_out_of_memory
from trtgate.errors import CaptureError

WARM_UP_RUNS: Final = 3  # torch.cuda.graphs' own recipe: libraries allocate workspaces and pick algorithms in these
_POISON: Final = {1: 0x5A, 2: 0x5A5A, 4: 0x5A5A5A5A, 8: 0x5A5A5A5A5A5A5A5A}
_INTEGER: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class CapturedGraph:
    """A captured inference.

    Attributes:
        outputs: the tensors that every replay writes, at fixed addresses.
        replay: launches the graph on the current stream.
    """

    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: tuple[torch.Tensor, ...]) -> None:
        self._graph = graph
        self.outputs = outputs
        self.replay: Callable[[], None] = graph.replay

    def close(self) -> None:
        """Give the graph and its memory pool back."""
        self._graph.reset()
        self.outputs = ()


def capture(run: Callable[[], Sequence[torch.Tensor]], stream: torch.cuda.Stream | None, what: str) -> CapturedGraph:
    """Capture one call of ``run`` after warming it up.

    Args:
        run: enqueues one inference on the current stream and returns its outputs; reads static buffers only.
        stream: where to warm up and capture; never the default stream.
        what: the case's id, for messages.

    Raises:
        CaptureError: there is no stream, the work cannot be captured, nothing was captured, or a replay does not write
            the outputs.
    """
    if stream is None:
        raise CaptureError(
            f"{what} asks for a CUDA graph, but there is no CUDA stream.", "Use execution 'stream' without a GPU."
        )
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_RUNS):
            run()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        try:
            # Thread-local: another thread (a monitor, a logger) may call CUDA while this one captures.
            with (
                _own_cublas_workspace(),
                torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
            ):
                outputs = tuple(run())
        except RuntimeError as error:
            _end_allocating_to(pool, stream.device)
            if is_out_of_memory(error) or is_out_of_memory(error.__context__):  # ending the capture fails too
                raise
            raise _not_captured(what, " ".join(str(error).split()).split(" CUDA kernel errors")[0]) from error
        require_rewritten(graph.replay, outputs, stream.synchronize, what)
    return CapturedGraph(graph, outputs)


def _end_allocating_to(pool: tuple[int, int], device: torch.device) -> None:
    """Tell the allocator that a capture which failed is over.

    Up to torch 2.12 `CUDAGraph.capture_end` raises before it does so itself, and every later `empty_cache` of the
    process then fails: https://github.com/pytorch/pytorch/pull/180395. Where torch has done it there is nothing left
    to end, and that is the error which is passed over.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(index, pool)
        torch._C._cuda_releasePool(index, pool)


@contextmanager
def _own_cublas_workspace() -> Iterator[None]:
    """Let cuBLAS allocate its workspace anew inside the capture, from the graph's own memory pool.

    A workspace from before the capture is PyTorch's to free, and Inductor does so whenever it records a graph; once the
    allocator has given that memory back, every replay that still points to it ends in a launch failure.
    """
    forget_cublas_workspaces()
    try:
        yield
    finally:
        forget_cublas_workspaces()


def require_rewritten(
    run: Callable[[], object], outputs: Sequence[torch.Tensor], synchronize: Callable[[], None], what: str
) -> None:
    """Poison the outputs, run, and check that every output was written again.

    An empty capture replays without an error and leaves old outputs in place, so their being right proves nothing.

    Args:
        run: should write the outputs.
        outputs: at least one tensor; their content is lost.
        synchronize: waits for ``run``.
        what: the case's id, for the message.

    Raises:
        CaptureError: an output still holds the poison, or there is no output.
    """
    if not outputs:
        raise _not_captured(what, "it has no output that could show a replay")
    with torch.inference_mode():
        views = [output.view(_INTEGER[output.element_size()]) for output in outputs]
        for view in views:
            view.fill_(_POISON[view.element_size()])
        run()
        synchronize()
        for index, view in enumerate(views):
            if view.numel() and bool((view == _POISON[view.element_size()]).all()):
                raise _not_captured(what, f"a replay leaves output {index} untouched")


def _not_captured(what: str, reason: str) -> CaptureError:
    return CaptureError(
        f"{what} could not be captured as a CUDA graph: {reason.rstrip('.')}.", "Use execution 'stream' for this case."
    )
