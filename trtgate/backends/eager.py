"""PyTorch as it comes: the module itself, called under `torch.inference_mode`, or captured into a CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtgate.backends.base import YES, Answer, Backend, BuildContext, Runner, no
from trtgate.backends.cuda_device import cuda_answer, device_memory_of, precision_answer
from trtgate.backends.module_runner import ModuleRunner, example_inputs
from trtgate.case import Case, Execution

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload


def torch_supports(case: Case) -> Answer:
    """Whether plain PyTorch can do a case here, eager or compiled."""
    if case.precision.quantised:
        return no(f"PyTorch only imitates {case.precision}: quantised modules compute in floating point.")
    precision = precision_answer(case.precision)
    if not precision:
        return precision
    if case.execution is Execution.GRAPH and not (gpu := cuda_answer()):
        return no(f"A CUDA graph needs an NVIDIA GPU: {gpu.reason}")
    return YES


class EagerBackend(Backend):
    """Plain PyTorch.

    An eager call reads PyTorch's TF32 switches when its kernels are chosen, at every call: enqueue inside
    `trtgate.precision.tf32.scope` of the case's precision.
    """

    name = "eager"

    def availability(self) -> Answer:
        """Always: PyTorch is a dependency."""
        return YES

    def supports(self, case: Case) -> Answer:
        """No quantised precision, no graph or TF32 without a GPU that has it."""
        return torch_supports(case)

    def build(self, workload: Workload, case: Case, context: BuildContext) -> Runner:
        """Move the module to the device and, for a graph, capture it."""
        from trtgate.precision import tf32
        from trtgate.precision.cast import prepare

        self.require_available()
        self.require_supported(case)
        with device_memory_of(case.id), tf32.scope(case.precision):
            with context.stopwatch.stage("load"):
                module = prepare(workload, case.precision, case.batch, case.sequence).to(context.device)
                runner = ModuleRunner(module, example_inputs(workload, case, context), context.stream)
            if case.execution is Execution.GRAPH:
                with context.stopwatch.stage("capture"):
                    runner.capture(case.id)
        return runner
