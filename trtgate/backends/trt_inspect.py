"""What a deserialised engine tells of itself: the engine inspector and the layer profiler. Needs a GPU."""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from trtgate.backends import plan_header, trt_runtime
from trtgate.backends.cuda_device import cuda_answer
from trtgate.errors import BackendAbsentError, InspectionError


def inspector_json_of_file(path: Path) -> str:
    """The engine inspector's JSON of a plan file that may be anyone's; its bytes are mapped, not read into memory.

    Raises:
        BackendAbsentError: TensorRT or a GPU is missing.
        PlanError: not a plan, truncated, or built by another version.
        InspectionError: the inspector returned nothing.
    """
    header = plan_header.read_header(path)
    if not cuda_answer():
        # Nothing here can load it, but its header tells more than that.
        plan_header.require_own(path)
    if header is None:
        fix = "It does not begin as a serialised engine does: name a plan file, an inspector's JSON, or a case id."
    elif foreign := plan_header.foreign_builder(header):
        flavour, version = trt_runtime.versions()
        here = f"{flavour} {version}"
        fix = f"It was built by {foreign}, and {here} is installed: inspect it with that version, or build it again."
    else:
        fix = "Inspect it on the GPU model that it was built for, or build it again."
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return inspector_json(mapped, str(path), fix=fix)


def inspector_json(plan: bytes | mmap.mmap, what: str, *, fix: str = trt_runtime.REBUILD) -> str:
    """The engine inspector's JSON of a serialised engine.

    Args:
        plan: the serialised engine.
        what: the plan's or case's name, for messages.
        fix: what to do about a plan that cannot be deserialised.

    Raises:
        BackendAbsentError: TensorRT or a GPU is missing.
        PlanError: truncated, foreign, or built by another version.
        InspectionError: the inspector returned nothing.
    """
    trt = trt_runtime.load()
    gpu = cuda_answer()
    if not gpu:
        raise BackendAbsentError(
            f"{what} cannot be deserialised here: {gpu.reason}",
            "Inspect the case instead, which builds ahead of time and reads the builder's log.",
        )
    runtime = trt.Runtime(trt_runtime.logger())
    engine = trt_runtime.deserialise(runtime, plan, what, fix=fix)
    return engine_json(trt, engine, what)


def engine_json(trt: Any, engine: Any, what: str) -> str:
    """The engine inspector's JSON of an engine that is already deserialised.

    Raises:
        InspectionError: the inspector returned nothing.
    """
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    if not text:
        raise InspectionError(
            f"The engine inspector told nothing of {what}.",
            "Build the engine again with profiling_verbosity = DETAILED.",
        )
    return str(text)


def layer_times_ms(execution: Any, enqueue: Callable[[], None], repeats: int) -> dict[str, float]:
    """Median milliseconds of each layer, as TensorRT's own profiler reports them.

    The profiler synchronises after each layer, so the sum is longer than an inference; the times rank layers of one
    engine, they are not a measurement of it.

    Args:
        execution: the IExecutionContext that ``enqueue`` uses. The profiler stays attached, since not every
            release lets go of one: close the runner afterwards.
        enqueue: one inference on a stream, not the replay of a CUDA graph, which reports nothing.
        repeats: inferences, at least 1.

    Raises:
        InspectionError: the runtime reported no layer.
    """
    trt = trt_runtime.load()
    samples: dict[str, list[float]] = defaultdict(list)

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.listening = False

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            if self.listening:
                samples[layer_name].append(ms)

    profiler = Profiler()
    execution.profiler = profiler
    try:
        enqueue()  # the first inference with a profiler rebuilds the launch sequence
        torch.cuda.synchronize()
        profiler.listening = True
        for _ in range(repeats):
            enqueue()
            torch.cuda.synchronize()
    finally:
        profiler.listening = False
    if not samples:
        raise InspectionError(
            "The runtime reported no layer times.",
            "Profile a case with execution 'stream' on an engine that was built with detailed verbosity.",
        )
    return {name: median(times) for name, times in samples.items()}
