"""A runner for anything that is called like a PyTorch module: eager, compiled by Inductor, or by Torch-TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from trtgate.backends.base import BuildContext, Runner
from trtgate.backends.bound_inputs import BoundInputs
from trtgate.backends.cuda_graph import CapturedGraph, capture

if TYPE_CHECKING:
    from trtgate.case import Case
    from trtgate.workloads.base import Workload


def example_inputs(workload: Workload, case: Case, context: BuildContext) -> BoundInputs:
    """Static buffers for a case, filled with the workload's first batch in the case's precision."""
    from trtgate.precision.cast import cast_inputs

    examples = cast_inputs(workload.inputs(case.batch, case.sequence, seed=0), case.precision)
    return BoundInputs.like(examples, context.device, context.stream, case.id)


def flatten(result: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of a module's result, in order."""
    return tuple(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor))


class ModuleRunner(Runner):
    """Calls a module on its bound inputs under `torch.inference_mode`.

    A call runs on the current stream, as PyTorch does: whoever enqueues has made the context's stream current. Its
    outputs are new tensors; PyTorch's caching allocator serves them without asking the device once it is warm.

    Args:
        call: takes the bound inputs.
        inputs: the static buffers.
        stream: of the context.
    """

    def __init__(self, call: Callable[..., Any], inputs: BoundInputs, stream: torch.cuda.Stream | None) -> None:
        super().__init__()
        self._call: Callable[..., Any] | None = torch.inference_mode()(call)
        self._inputs = inputs
        self._stream = stream
        self._result: Any = None
        self._graph: CapturedGraph | None = None

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Copy the inputs into the static buffers."""
        self._inputs.fill(inputs)

    def enqueue(self) -> None:
        """Call the module once."""
        assert self._call is not None, "enqueue after close"
        self._result = self._call(*self._inputs.tensors)

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The result of the last call, flattened."""
        return flatten(self._result)

    def warm_up(self, calls: int) -> None:
        """Call the module on the context's stream and wait, so that what is made lazily is made now."""
        if self._stream is None:
            for _ in range(calls):
                self.enqueue()
            return
        with torch.cuda.stream(self._stream):
            for _ in range(calls):
                self.enqueue()
        self._stream.synchronize()

    def capture(self, what: str) -> None:
        """From now on an inference is the replay of a CUDA graph of one call.

        Raises:
            CaptureError: it cannot be captured, or was not.
        """

        def run() -> tuple[torch.Tensor, ...]:
            self.enqueue()
            return self.outputs()

        self._graph = capture(run, self._stream, what)
        self._result = self._graph.outputs
        self.facts.captured = True
        self.enqueue = self._graph.replay  # type: ignore[method-assign] # no Python between the caller and the launch

    def close(self) -> None:
        """Drop the module, its graph and its buffers."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self.__dict__.pop("enqueue", None)
        self._call = None
        self._result = None
        self._inputs.close()
