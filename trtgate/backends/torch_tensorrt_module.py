"""Compiles a module with Torch-TensorRT, keeps the result on disk, and tells what of it runs in TensorRT.

What is measured is the module as it was loaded back from its saved form, in the first process as in any later one, so
that a cold and a warm cache give the same thing to measure. Where saving or loading fails, the compiled module itself
is used, and the facts say so.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import operator
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trtgate import artefacts, precision
from trtgate.backends import plan_target, trt_build, trt_runtime
from trtgate.backends.cuda_device import is_out_of_memory
from trtgate.backends.plan_cache import PlanCache, PlanCacheWarning
from trtgate.case import Precision
from trtgate.errors import BuildError, ExportError

if TYPE_CHECKING:
    from trtgate.backends.base import BuildContext
    from trtgate.case import Case
    from trtgate.precision.calibration import CalibrationSpec
    from trtgate.workloads.base import Workload


@dataclass(frozen=True, slots=True)
class Compiled:
    """A module that holds engines.

    Attributes:
        module: takes the bound inputs, on the GPU.
        engine_bytes: size of all its serialised engines.
        from_cache: whether it was loaded instead of compiled.
        details: blocks and operators in TensorRT and in PyTorch, how it was quantised and cached; plain JSON.
    """

    module: torch.nn.Module
    engine_bytes: int
    from_cache: bool
    details: dict[str, Any]


def compiled(
    workload: Workload, case: Case, context: BuildContext, inputs: Sequence[torch.Tensor], version: str
) -> Compiled:
    """The workload compiled for a case, from the cache where that has it.

    Args:
        workload: what to compile.
        case: shapes and precision.
        context: cache and stopwatch.
        inputs: example inputs on the GPU, in the case's precision.
        version: of Torch-TensorRT; part of the cache's key.

    Raises:
        ExportError: `torch.export` failed.
        BuildError: Torch-TensorRT failed.
    """
    flavour, runtime = trt_runtime.versions()
    settings = _settings(case.precision)
    key: dict[str, object] = {
        "recipe": [artefacts.digest(Path(__file__)), *precision.code()],
        "workload": workload.model_key,
        "shape": case.shape,
        "precision": case.precision.value,
        "torch": torch.__version__,
        "torch_tensorrt": version,
        "tensorrt": [flavour, runtime],
        "target": trt_build.gpu_key(),
        "settings": settings,
        "tf32_override": plan_target.tf32_override(),
    }
    if case.precision.quantised:
        from trtgate.precision import quantise_torch

        key["quantised"] = quantise_torch.cache_key(
            workload, case.precision, _calibration(case, context), case.sequence
        )
    kept = PlanCache(context.cache / "torch_tensorrt", ".ep")
    with context.stopwatch.stage("load"):
        entry = kept.load(key)
        if entry is not None:
            try:
                module = _load(entry.content)
            except Exception as error:  # deserialising runs the package's code; any other failure means rebuild
                if is_out_of_memory(error):
                    raise
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                warnings.warn(
                    f"{entry.path} cannot be loaded ({reason}); it is built again.", PlanCacheWarning, stacklevel=2
                )
            else:
                return Compiled(module, int(entry.details["engine_bytes"]), True, entry.details)
    with context.stopwatch.stage("compile"):
        fresh, details = _compile(workload, case, context, inputs, settings)
    with context.stopwatch.stage("save"):
        try:
            content = _save(fresh, inputs)
            module = _load(content)
        except Exception as error:  # not every graph can be saved; it is still right and can be measured
            if is_out_of_memory(error):
                raise
            details["cache"] = f"not cached: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Compiled(fresh, details["engine_bytes"], False, details)
        details["cache"] = "exported program"
        kept.store(key, content, details)
    return Compiled(module, details["engine_bytes"], False, details)


def _settings(precision: Precision) -> dict[str, Any]:
    """What differs from the package's defaults; datatypes are the module's own, which is its default typing."""
    return {
        "min_block_size": 1,  # anything that TensorRT can do, it does
        "require_full_compilation": False,  # what falls back to PyTorch is recorded by name instead
        "disable_tf32": precision is not Precision.TF32,
    }


def _compile(
    workload: Workload, case: Case, context: BuildContext, inputs: Sequence[torch.Tensor], settings: dict[str, Any]
) -> tuple[torch.fx.GraphModule, dict[str, Any]]:
    import torch_tensorrt

    program, quantisation = _exported(workload, case, context, inputs)
    in_engines: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as private, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of options that are not used here
        # The default timing cache is one file a machine: one build's luck would be in the next one's result.
        options = settings | {"timing_cache_path": str(Path(private) / "timing_cache.bin")}
        _require_options(torch_tensorrt.dynamo.compile, options)
        try:
            with _observed(in_engines), _detailed_engines():
                fresh = torch_tensorrt.dynamo.compile(program, arg_inputs=list(inputs), **options)
        except Exception as error:  # each converter raises what it likes
            if is_out_of_memory(error):
                raise
            raise BuildError(
                f"Torch-TensorRT failed on {case.id}: {_first_line(error)}.", "Run this workload on another backend."
            ) from error
    return fresh, coverage(fresh, in_engines) | quantisation


def _exported(
    workload: Workload, case: Case, context: BuildContext, inputs: Sequence[torch.Tensor]
) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """The workload as a graph, and what a record keeps of its quantisation."""
    if case.precision.quantised:
        from trtgate.precision import quantise_torch

        module = quantise_torch.fake_quantised(
            workload, case.precision, context.cache, context.device, _calibration(case, context), case.sequence
        )
        return quantise_torch.export(module, inputs), quantise_torch.report_of(module).facts()
    from trtgate.precision.cast import prepare

    module = prepare(workload, case.precision, case.batch, case.sequence).to(context.device)
    try:
        with torch.no_grad():
            return torch.export.export(module, tuple(inputs), strict=False), {}
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        if is_out_of_memory(error):
            raise
        raise ExportError(
            f"torch.export refused {case.id}: {_first_line(error)}.", "Rewrite what it names in the model."
        ) from error


def _calibration(case: Case, context: BuildContext) -> CalibrationSpec:
    return context.calibration.for_precision(case.precision)


def _require_options(function: Any, options: dict[str, Any]) -> None:
    """Releases from 2.13 on swallow options that they do not know, so each is looked for."""
    missing = sorted(set(options) - set(inspect.signature(function).parameters))
    if missing:
        raise BuildError(
            f"This Torch-TensorRT does not take the options {missing}, which it would ignore silently.",
            "Install a release between 2.11 and 2.14.",
        )


@contextlib.contextmanager
def _observed(counted: Counter[str]) -> Iterator[None]:
    """Count the operators of every subgraph that is converted into an engine."""
    from torch_tensorrt.dynamo.conversion import _TRTInterpreter as interpreter

    def count(subgraph: torch.fx.GraphModule) -> None:
        counted.update(_operators(subgraph.graph))

    with interpreter.TRT_INTERPRETER_CALL_PRE_OBSERVER.add(count):
        yield


@contextlib.contextmanager
def _detailed_engines() -> Iterator[None]:
    """Build engines that tell their layers in full.

    The package has this only inside its Debugger, which rewires the process's logging and, in 2.11, times every layer
    of every call.
    """
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

    trt = trt_runtime.load()
    original = TRTInterpreter._populate_trt_builder_config

    def detailed(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(self, *args, **kwargs)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        return config

    TRTInterpreter._populate_trt_builder_config = detailed
    try:
        yield
    finally:
        TRTInterpreter._populate_trt_builder_config = original


def coverage(module: torch.fx.GraphModule, in_engines: Counter[str]) -> dict[str, Any]:
    """How much of a compiled module runs in TensorRT.

    Args:
        module: as `torch_tensorrt.dynamo.compile` returned it.
        in_engines: how many operators of each name were converted.

    Returns:
        Plain JSON: number of engines (blocks), their bytes, operators in TensorRT and in PyTorch by name.
    """
    blocks = [child for child in module.children() if hasattr(child, "serialized_engine")]
    plans: list[bytes] = [getattr(block, "serialized_engine", None) or b"" for block in blocks]
    fallen = Counter(_operators(module.graph))
    for child in module.children():
        if isinstance(child, torch.fx.GraphModule):
            fallen.update(_operators(child.graph))
    return {
        "tensorrt_blocks": len(blocks),
        "engine_bytes": sum(len(engine) for engine in plans),
        "tensorrt_operators": dict(sorted(in_engines.items())),
        "pytorch_operators": dict(sorted(fallen.items())),
    }


def _operators(graph: torch.fx.Graph) -> list[str]:
    """Names of the operators that compute something; taking an item of a tuple does not."""
    return [
        str(node.target)
        for node in graph.nodes
        if node.op in ("call_function", "call_method") and node.target is not operator.getitem
    ]


def engines(module: torch.nn.Module) -> tuple[Any, ...]:
    """The engine objects of a compiled or loaded module, C++ or Python ones."""
    return tuple(
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.ScriptObject) or type(value).__name__ == "TRTEngine"
    )


def _save(module: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> bytes:
    import torch_tensorrt

    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about inputs that a saved module does not need
        path = Path(folder) / "module.ep"
        torch_tensorrt.save(module, str(path), output_format="exported_program", arg_inputs=list(inputs))
        return path.read_bytes()


def _load(content: bytes) -> torch.nn.Module:
    import torch_tensorrt  # noqa: F401 # registers the engine's class and operator

    program = torch.export.load(io.BytesIO(content))
    # Shapes are checked once, when inputs are bound, not at every call.
    unguarded = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
    module: torch.nn.Module = program.module(**unguarded)
    return module


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}".rstrip(".: ")
