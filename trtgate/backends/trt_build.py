"""From an ONNX file to a serialised plan: parser, strongly typed network, builder.

One code path for TensorRT 10.15 and newer, 11.x and TensorRT-RTX. Precision is a property of the ONNX file; the only
numeric switch here is TF32, which is on by default and therefore always set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trtgate import artefacts
from trtgate.backends import gpu_by_nvml, plan_target, trt_rtx, trt_runtime
from trtgate.backends.cuda_device import cuda_answer, out_of_memory
from trtgate.case import Precision
from trtgate.errors import BuildError, ParserError

if TYPE_CHECKING:
    from trtgate.backends.base import Stopwatch
    from trtgate.backends.trt_runtime import Messages

_MAX_NAMED_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Built:
    """A plan as the builder made it.

    Attributes:
        plan: the serialised engine.
        details: what the parser and the builder said of it, as plain JSON.
    """

    plan: bytes
    details: dict[str, object]


def build_key(onnx_path: Path, precision: Precision, *, ahead_of_time: bool) -> dict[str, object]:
    """Everything that shapes a plan.

    Args:
        onnx_path: the model; its bytes count, not its name.
        precision: of the case; it decides TF32.
        ahead_of_time: whether the plan is for `trt_rtx.AHEAD_OF_TIME_TARGET` rather than for the GPU here.
    """
    flavour, version = trt_runtime.versions()
    external = onnx_path.with_name(onnx_path.name + ".data")
    target = plan_target.AHEAD_OF_TIME if ahead_of_time else gpu_key()
    return {
        "onnx_sha256": artefacts.digest(onnx_path),
        "external_data_sha256": artefacts.digest(external) if external.is_file() else None,
        "flavour": flavour,
        "version": version,
        "target": target,
        "precision": precision.value,
        "flags": plan_target.flags(precision),
    }


def gpu_key() -> dict[str, object]:
    """What of the GPU here a compiled artefact depends on: its name, compute capability and driver."""
    if not cuda_answer():
        return {"gpu": None, "compute_capability": None, "driver": None}
    major, minor = torch.cuda.get_device_capability()
    return {
        "gpu": torch.cuda.get_device_name(),
        "compute_capability": f"sm_{major}{minor}",
        "driver": gpu_by_nvml.driver_version(),
    }


def build(
    onnx_path: Path,
    precision: Precision,
    what: str,
    stopwatch: Stopwatch,
    *,
    ahead_of_time: bool,
    verbose_log: list[str] | None = None,
    on_network: Callable[[Any], None] | None = None,
) -> Built:
    """Parse an ONNX file and build its plan; the stages ``parse`` and ``build`` run under the stopwatch.

    Args:
        onnx_path: the model; static shapes.
        precision: decides the TF32 flag.
        what: the case's id, for messages.
        stopwatch: times the stages.
        ahead_of_time: build without a GPU, which TensorRT-RTX alone can do.
        verbose_log: receives every line that the builder logs, layers with datatypes and ONNX nodes among them.
        on_network: called with the parsed network before it is built, to mark debug tensors.

    Raises:
        ParserError: the parser refused the model; names each node and operator.
        BuildError: the builder returned nothing, or cannot build without a GPU.
        OutOfDeviceMemoryError: the builder ran out of device memory.
    """
    trt = trt_runtime.load()
    with trt_runtime.collect(verbose_log) as messages:
        builder = trt.Builder(trt_runtime.logger())
        config = _configured(trt, builder, precision, what, ahead_of_time=ahead_of_time)
        # Strong typing: asked for on TensorRT 10, all there is on 11 and on TensorRT-RTX, which takes no such flag.
        strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(0 if trt_rtx.available(config) else strongly_typed)
        with stopwatch.stage("parse"):
            _parse(trt, network, onnx_path, what, messages)
        if on_network is not None:
            on_network(network)
        with stopwatch.stage("build"):
            plan = builder.build_serialized_network(network, config)
        if plan is None:
            if messages.out_of_memory:
                raise out_of_memory(what, messages.summary)
            raise BuildError(
                f"TensorRT built nothing for {what}: {messages.summary}.",
                "If it names an operator or a datatype, use another precision or backend for this workload.",
            )
        details: dict[str, object] = {
            "network_layers": network.num_layers,
            "tf32": bool(config.get_flag(trt.BuilderFlag.TF32)),
            "warnings": messages.problems[-_MAX_NAMED_ERRORS:],
        }
        return Built(bytes(memoryview(plan)), details)


def _parse(trt: Any, network: Any, onnx_path: Path, what: str, messages: Messages) -> None:
    parser = trt.OnnxParser(network, trt_runtime.logger())
    # From the file, not from bytes: weights may lie in a second file beside it.
    # TensorRT-RTX 1.6 says yes to a file that is no ONNX at all, and leaves the network empty.
    if parser.parse_from_file(str(onnx_path)) and network.num_outputs:
        return
    found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
    named = "; ".join(found[:_MAX_NAMED_ERRORS]) or f"it found no model in {onnx_path.name} ({messages.summary})"
    more = f"; and {len(found) - _MAX_NAMED_ERRORS} more" if len(found) > _MAX_NAMED_ERRORS else ""
    raise ParserError(
        f"TensorRT's ONNX parser refused {what}: {named}{more}.",
        "Rewrite these operators in the model, or run this workload on another backend.",
    )


def _parser_error(parser_error: Any) -> str:
    node = parser_error.node_name() or "(unnamed)"
    operator = parser_error.node_operator() or "unknown"
    return f"node '{node}', operator {operator}: {' '.join(parser_error.desc().split()).rstrip('.')}"


def _configured(trt: Any, builder: Any, precision: Precision, what: str, *, ahead_of_time: bool) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # without it an engine names its layers and no more
    if precision is Precision.TF32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if trt_rtx.available(config):
        trt_rtx.set_target(trt, config, trt_rtx.AHEAD_OF_TIME_TARGET if ahead_of_time else "CURRENT")
    elif ahead_of_time:
        raise BuildError(
            f"{what} cannot be built without a GPU: {trt.__name__} {trt.__version__} times kernels on one.",
            "Build it on a machine with a GPU, or install the extra 'rtx' of trtgate.",
        )
    else:
        # Empty and private: a timing cache that outlives a run makes one build's luck the next one's result.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return config
