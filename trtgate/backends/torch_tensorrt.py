"""Torch-TensorRT, ahead of time: `torch.export` -> `torch_tensorrt.dynamo.compile` -> a module that holds engines.

Execution 'graph' captures a call of the module into a CUDA graph of PyTorch's, with the package's own mode off. That
mode is a switch of the whole process, which would change every other runner; it copies inputs and outputs at each
replay; and the package's C++ engine does not tell whether it captured anything.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Final

import torch

from trtgate.backends import torch_tensorrt_module, trt_runtime
from trtgate.backends.base import YES, Answer, Backend, BuildContext, Runner, no
from trtgate.backends.cuda_device import cuda_answer, device_memory_of, precision_answer
from trtgate.backends.module_runner import ModuleRunner, example_inputs
from trtgate.case import Case, Execution

if TYPE_CHECKING:
    from torch.nn import Module

    from trtgate.backends.bound_inputs import BoundInputs
    from trtgate.backends.trt_runtime import Flavour
    from trtgate.workloads.base import Workload

_DISTRIBUTIONS: Final[dict[str, Flavour]] = {"torch-tensorrt": "tensorrt", "torch-tensorrt-rtx": "tensorrt_rtx"}
# Engines allocate their standing outputs in the second call, once two calls in a row asked for them.
_WARM_UP_CALLS: Final = 3


def version() -> str | None:
    """The version of the installed package, of either flavour; None where there is none or both. Imports nothing."""
    found = _installed()
    return next(iter(found.values())) if len(found) == 1 else None


def _installed() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class TorchTensorRTBackend(Backend):
    """A PyTorch module whose operators run in TensorRT engines as far as they can."""

    name = "torch_tensorrt"

    def availability(self) -> Answer:
        """Whether one Torch-TensorRT that fits this PyTorch is installed, a GPU is there, and the package imports."""
        # Metadata, then the device, then the import: without a GPU the import raises and leaves wrong modules behind.
        return _package_answer() and cuda_answer() and _import_answer()

    def supports(self, case: Case) -> Answer:
        """What this GPU has; quantised modules carry explicit quantise/dequantise pairs into the engine."""
        return precision_answer(case.precision)

    def build(self, workload: Workload, case: Case, context: BuildContext) -> Runner:
        """Compile the workload or load what was compiled, and, for a graph, capture a call."""
        from trtgate.precision import tf32

        self.require_available()
        self.require_supported(case)
        with device_memory_of(case.id), tf32.scope(case.precision):
            inputs = example_inputs(workload, case, context)
            compiled = torch_tensorrt_module.compiled(workload, case, context, inputs.tensors, str(version()))
            runner = TorchTensorRTRunner(compiled.module, inputs, context.stream)
            runner.facts.plan_bytes = compiled.engine_bytes
            runner.facts.from_cache = compiled.from_cache
            runner.facts.details.update(compiled.details)
            runner.facts.details["engines_with_standing_outputs"] = runner.engine_count
            with context.stopwatch.stage("jit"):
                runner.warm_up(_WARM_UP_CALLS)
            if case.execution is Execution.GRAPH:
                with context.stopwatch.stage("capture"):
                    runner.capture(case.id)
                runner.facts.details["cuda_graph"] = {"by": "torch.cuda.CUDAGraph round the compiled module"}
        return runner


class TorchTensorRTRunner(ModuleRunner):
    """Calls a compiled module whose engines keep standing outputs, so that an inference allocates nothing."""

    def __init__(self, module: Module, inputs: BoundInputs, stream: torch.cuda.Stream | None) -> None:
        super().__init__(module, inputs, stream)
        self._engines = torch_tensorrt_module.engines(module)
        for engine in self._engines:
            # A fresh output a call is the package's default for the last engine; ours may be overwritten, by contract.
            engine.set_output_tensors_as_unowned(False)
            engine.use_pre_allocated_outputs = True

    @property
    def engine_count(self) -> int:
        """Engines that were found in the module and told to keep their outputs."""
        return len(self._engines)

    def inspector_json(self) -> tuple[str, ...]:
        """What each engine tells of its layers, as TensorRT's inspector writes it, in the module's order."""
        return tuple(str(engine.get_engine_layer_info()) for engine in self._engines)

    def close(self) -> None:
        """Drop the engines with the module."""
        super().close()
        self._engines = ()


def _package_answer() -> Answer:
    found = _installed()
    if not found:
        return no("neither torch-tensorrt nor torch-tensorrt-rtx is installed; install the extra 'rtx' or 'tensorrt'.")
    if len(found) > 1:
        both = " and ".join(f"{name} {one}" for name, one in found.items())
        return no(f"Both {both} are installed, and they overwrite each other's files; uninstall both, install one.")
    ((name, package),) = found.items()
    ours, theirs = _minor(torch.__version__), _minor(package)
    if ours != theirs:
        return no(f"{name} {package} is made for torch {theirs}, and torch {torch.__version__} is installed.")
    runtime = trt_runtime.installed_answer()
    if not runtime:
        return runtime
    flavour, _ = trt_runtime.versions()
    if flavour != _DISTRIBUTIONS[name]:
        return no(f"{name} runs on {_DISTRIBUTIONS[name]}, and the TensorRT in use is {flavour}.")
    return YES


def _import_answer() -> Answer:
    try:
        import torch_tensorrt  # noqa: F401
    except Exception as error:  # noqa: BLE001 # the package raises bare Exception when its libraries do not load
        return no(f"torch_tensorrt cannot be imported: {' '.join(str(error).split()).rstrip('.')}.")
    return YES


def _minor(version_text: str) -> str:
    return ".".join(version_text.split("+")[0].split(".")[:2])
