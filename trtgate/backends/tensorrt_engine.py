"""A raw TensorRT engine: ONNX -> parser -> strongly typed network -> plan -> execution on torch tensors, zero copy.

One code path serves TensorRT 10.15 and newer, 11.x and TensorRT-RTX. Plans are cached on disk under everything that
shapes them; with TensorRT-RTX they are also built where there is no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtgate.backends import trt_build, trt_rtx, trt_runtime
from trtgate.backends.base import YES, Answer, Backend, BuildContext, Runner, no
from trtgate.backends.cuda_device import cuda_answer, device_memory_of, precision_answer
from trtgate.backends.plan_cache import of_plans
from trtgate.backends.trt_runner import TensorRTEngineRunner
from trtgate.case import Case, Execution, Precision

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised engine on disk, verified.

    Attributes:
        path: the file.
        digest: SHA-256 of its content, in hexadecimal.
        from_cache: whether it was read instead of built.
        details: plain-JSON facts of the build that made it.
        content: the serialised engine.
        key: what it was built from; artefacts that belong to it are cached under the same.
        quantisation: ``calibration`` and ``skipped`` of a quantised model, empty for any other; plain JSON.
    """

    path: Path
    digest: str
    from_cache: bool
    details: dict[str, Any]
    content: bytes
    key: dict[str, object]
    quantisation: dict[str, object] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of the content."""
        return len(self.content)


def build_plan(
    workload: Workload,
    case: Case,
    context: BuildContext,
    *,
    ahead_of_time: bool,
    verbose_log: list[str] | None = None,
) -> Plan:
    """Export the workload and build its plan, or read the plan from the cache.

    Args:
        workload: what to build.
        case: decides shapes and precision.
        context: the cache and the stopwatch; device and stream are not used.
        ahead_of_time: build for `trt_rtx.AHEAD_OF_TIME_TARGET` without a GPU, which TensorRT-RTX alone can do.
        verbose_log: receives every line of the builder's log. A log exists only of a build that takes place, so the
            plan is then built even where the cache has it.

    Raises:
        BackendAbsentError: no TensorRT, or two.
        ExportError, ParserError, BuildError, OutOfDeviceMemoryError: what went wrong, by name.
        StorageError: the cache cannot be written.
    """
    from trtgate.backends import onnx_export

    trt_runtime.load()  # first, so that an absent TensorRT does not cost an export
    path = parsed_onnx(workload, case, context, ahead_of_time=ahead_of_time)
    plan = plan_of(path, case.precision, case.id, context, ahead_of_time=ahead_of_time, verbose_log=verbose_log)
    return replace(plan, quantisation=onnx_export.quantisation_facts(path, case.precision))


def parsed_onnx(workload: Workload, case: Case, context: BuildContext, *, ahead_of_time: bool) -> Path:
    """The ONNX file that the parser is given: the export, rewritten where this runtime needs it; from the cache.

    Args:
        workload: what to export.
        case: decides shapes and precision.
        context: the cache and the stopwatch.
        ahead_of_time: as for `build_plan`.

    Raises:
        ExportError: the model cannot be exported.
        StorageError: the cache cannot be written.
    """
    from trtgate.backends import onnx_export

    onnx_path = onnx_export.export(workload, case, context.cache, context.stopwatch, context.calibration)
    if case.precision is Precision.BF16 and not ahead_of_time and _no_bf16_depthwise():
        from trtgate.precision import depthwise

        return depthwise.unrolled(onnx_path, context.cache)
    return onnx_path


def plan_of(
    onnx_path: Path,
    precision: Precision,
    what: str,
    context: BuildContext,
    *,
    ahead_of_time: bool,
    verbose_log: list[str] | None = None,
) -> Plan:
    """The plan of an ONNX file; see `build_plan`.

    Args:
        onnx_path: the model, with static shapes.
        precision: decides the TF32 flag.
        what: a name for messages.
        context: as for `build_plan`.
        ahead_of_time: as for `build_plan`.
        verbose_log: as for `build_plan`.
    """
    key = trt_build.build_key(onnx_path, precision, ahead_of_time=ahead_of_time)
    kept = of_plans(context.cache)
    entry = None
    if verbose_log is None:
        with context.stopwatch.stage("load"):
            entry = kept.load(key)
    from_cache = entry is not None
    if entry is None:
        built = trt_build.build(
            onnx_path, precision, what, context.stopwatch, ahead_of_time=ahead_of_time, verbose_log=verbose_log
        )
        entry = kept.store(key, built.plan, built.details)
    return Plan(entry.path, entry.digest, from_cache, entry.details, entry.content, key)


def _no_bf16_depthwise() -> bool:
    flavour, _ = trt_runtime.versions()
    return flavour == "tensorrt_rtx" and trt_build.gpu_key()["compute_capability"] in trt_rtx.NO_BF16_DEPTHWISE


class TensorRTEngineBackend(Backend):
    """TensorRT's own runtime, without PyTorch between the caller and the engine."""

    name = "tensorrt_engine"

    def availability(self) -> Answer:
        """Whether exactly one TensorRT is installed, a GPU is there, and the libraries load."""
        # Metadata, then the device, then the import: an import without a GPU can raise and leave wrong modules behind.
        installed = trt_runtime.installed_answer()
        if not installed:
            return installed
        return cuda_answer() and trt_runtime.answer()

    def ahead_of_time_availability(self) -> Answer:
        """Whether plans can be built here without a GPU, or why not in one sentence."""
        installed = trt_runtime.installed_answer()
        if not installed:
            return installed
        flavour, version = trt_runtime.versions()
        if flavour != "tensorrt_rtx":
            return no(f"{flavour} {version} needs a GPU to build; only TensorRT-RTX builds without one.")
        return trt_runtime.answer()

    def supports(self, case: Case) -> Answer:
        """TF32 and fp8 need a GPU that has them; everything else is the parser's and the builder's to refuse."""
        if cuda_answer() or case.precision is not Precision.TF32:
            return precision_answer(case.precision)
        return YES  # a plan for a GPU that has TF32 can be built ahead of time

    def build(self, workload: Workload, case: Case, context: BuildContext) -> Runner:
        """Build or read the plan, deserialise it, bind buffers and, for a graph, capture."""
        self.require_available()
        self.require_supported(case)
        with device_memory_of(case.id):
            plan = build_plan(workload, case, context, ahead_of_time=False)
            key = {**plan.key, "plan_sha256": plan.digest}
            runner = TensorRTEngineRunner(plan.content, key, case, context, workload.input_names, workload.output_names)
            facts = runner.facts
            facts.plan_bytes = plan.bytes
            facts.from_cache = plan.from_cache
            facts.details["plan"] = {"digest": plan.digest, **plan.details}
            facts.details.update(plan.quantisation)
            runner.bind(workload.inputs(case.batch, case.sequence, seed=0))
            if case.execution is Execution.GRAPH:
                with context.stopwatch.stage("capture"):
                    runner.capture()
        return runner
