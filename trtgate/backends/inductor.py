"""PyTorch compiled by `torch.compile` with Inductor; on a GPU with its CUDA-graph trees (mode reduce-overhead).

Several compiled models live in one process, so nothing here resets Dynamo, which would drop them all. Each model gets a
function with a code object of its own: Dynamo counts recompilations by code object, and torchvision's models of one
family would otherwise share one and hit the limit.

Bound inputs are marked as static addresses, like parameters: CUDA-graph trees would otherwise copy them before every
replay, which no other backend here does.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch

from trtgate.backends.base import YES, Answer, Backend, BuildContext, Runner, no
from trtgate.backends.cuda_device import device_memory_of, is_out_of_memory, out_of_memory
from trtgate.backends.dynamo_errors import cause_of, reason_of
from trtgate.backends.eager import torch_supports
from trtgate.backends.inductor_artefacts import artefacts_in, without_damaged
from trtgate.backends.module_runner import ModuleRunner, example_inputs
from trtgate.case import Case, Execution
from trtgate.errors import BuildError, CaptureError

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

# The first call compiles and warms up, the second records the graph, the third replays it; one more shows it stays so.
_WARM_UP_CALLS: Final = 4
_serial = itertools.count()


class InductorBackend(Backend):
    """`torch.compile(fullgraph=True, dynamic=False)`; artefacts are cached on disk by Inductor itself."""

    name = "inductor"

    def availability(self) -> Answer:
        """Whether Inductor has a compiler for its kernels: Triton on a GPU, a C++ compiler on the CPU."""
        if torch.cuda.is_available():
            from torch.utils._triton import has_triton

            return YES if has_triton() else no("Triton is not installed or does not support this GPU.")
        return _cpp_compiler()

    def supports(self, case: Case) -> Answer:
        """What plain PyTorch supports."""
        return torch_supports(case)

    def build(self, workload: Workload, case: Case, context: BuildContext) -> Runner:
        """Compile the module and, for a graph, check that CUDA-graph trees recorded it."""
        from trtgate.precision import tf32
        from trtgate.precision.cast import prepare

        self.require_available()
        self.require_supported(case)
        graph = case.execution is Execution.GRAPH
        artefacts = context.cache / "inductor"
        with device_memory_of(case.id), tf32.scope(case.precision), artefacts_in(artefacts):
            with context.stopwatch.stage("load"):
                module = prepare(workload, case.precision, case.batch, case.sequence).to(context.device)
                inputs = example_inputs(workload, case, context)
            for tensor in inputs.tensors:
                torch._dynamo.mark_static_address(tensor)

            def compiled() -> tuple[ModuleRunner, _Counts, weakref.WeakSet[Any]]:
                called = torch.compile(
                    _own_function(module), fullgraph=True, dynamic=False, mode="reduce-overhead" if graph else "default"
                )
                runner = ModuleRunner(called, inputs, context.stream)
                counts = _Counts()
                recorded = weakref.WeakSet(_recorded_graphs(context.device))
                runner.warm_up(_WARM_UP_CALLS)
                return runner, counts, recorded

            with context.stopwatch.stage("compile"), _compile_errors(case.id):
                runner, counts, recorded = without_damaged(artefacts, compiled)
        runner.facts.from_cache = counts.hits > 0 and counts.misses == 0
        runner.facts.details["fx_graph_cache"] = {"hits": counts.hits, "misses": counts.misses}
        if graph:
            _require_recorded(case.id, counts, [one for one in _recorded_graphs(context.device) if one not in recorded])
            runner.facts.captured = True
            runner.facts.details["cuda_graph"] = {
                "by": "torch.compile reduce-overhead",
                "inputs_copied_at_each_replay": counts.copied_inputs,
            }
        return runner


@functools.cache
def _cpp_compiler() -> Answer:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        found = get_cpp_compiler()
    except InvalidCxxCompiler as error:
        return no(f"Inductor finds no C++ compiler: {' '.join(str(error).split()).rstrip('.')}.")
    if shutil.which(found) is None:
        return no(f"Inductor needs the C++ compiler '{found}', which is not installed.")
    return YES


def _own_function(module: torch.nn.Module) -> Callable[..., Any]:
    """A function that calls the module and shares its code object with no other."""

    def forward(*inputs: torch.Tensor) -> Any:
        return module(*inputs)

    code = forward.__code__.replace(co_name=f"forward_{next(_serial)}")
    return types.FunctionType(code, forward.__globals__, code.co_name, None, forward.__closure__)


@contextmanager
def _compile_errors(what: str) -> Iterator[None]:
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        inner = cause_of(error)
        if is_out_of_memory(inner):
            raise out_of_memory(what, str(inner)) from error
        raise BuildError(
            f"torch.compile failed on {what}: {reason_of(error)}.", "Set TORCH_LOGS=dynamo,inductor to see why."
        ) from error


class _Counts:
    """Inductor's counters since this object was made."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> dict[str, int]:
        counters = torch._dynamo.utils.counters
        # A hit of the AOT-autograd cache may load the compiled graph without asking the FX graph cache.
        return {**counters["inductor"], **counters["aot_autograd"]}

    def _since(self, *names: str) -> int:
        now = self._now()
        return sum(now.get(name, 0) - self._before.get(name, 0) for name in names)

    @property
    def hits(self) -> int:
        return self._since("fxgraph_cache_hit", "autograd_cache_hit")

    @property
    def misses(self) -> int:
        return self._since("fxgraph_cache_miss", "fxgraph_cache_bypass")

    @property
    def skipped_graphs(self) -> int:
        return self._since("cudagraph_skips")

    @property
    def copied_inputs(self) -> int:
        return self._since("cudagraph_recorded_non_static_inputs")


def _recorded_graphs(device: torch.device) -> list[Any]:
    """Every CUDA graph that CUDA-graph trees hold for a device, roots and their descendants."""
    if device.type != "cuda":
        return []
    from torch._inductor.cudagraph_trees import get_manager

    index = torch.cuda.current_device() if device.index is None else device.index
    manager = get_manager(index, create_if_none_exists=False)
    if manager is None or manager.roots is None:
        return []
    found = [node for nodes in manager.roots.values() for node in nodes]
    for node in found:  # grows while it is walked: breadth first
        found.extend(child for children in node.children.values() for child in children)
    return found


def _require_recorded(what: str, counts: _Counts, new_graphs: list[Any]) -> None:
    if counts.skipped_graphs:
        reason = f"torch.compile skipped CUDA graphs {counts.skipped_graphs} times"
    elif not new_graphs:
        reason = "torch.compile recorded no CUDA graph"
    else:
        return
    raise CaptureError(
        f"{what} does not run as a CUDA graph: {reason}.",
        "Set TORCH_LOGS=cudagraphs to see why, or use execution 'stream' for this case.",
    )
