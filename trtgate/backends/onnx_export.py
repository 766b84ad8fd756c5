"""PyTorch to ONNX, once: files are cached under everything that shapes them and checked by digest before use."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from trtgate import artefacts
from trtgate.backends.base import Stopwatch
from trtgate.case import Case, Precision
from trtgate.errors import ExportError, first_line
from trtgate.precision.calibration import CalibrationSpec
from trtgate.precision.cast import cast_inputs, prepare_to_export
from trtgate.workloads.base import Workload

# What TensorRT 10.15's parser and ONNX Runtime 1.22 both read in full.
OPSET: Final = 20
# Raise it when this file, or a rewrite that it relies on, changes what it makes of the same module.
_RECIPE: Final = 4
# A protobuf message, and so a model with its weights inside, ends at 2 GiB.
_MAX_EMBEDDED_BYTES: Final = 2**31 - 2**20
_PACKAGES: Final = ("torch", "torchvision", "onnx", "onnxscript", "onnx-ir")
_SEED: Final = 0


def export(
    workload: Workload,
    case: Case,
    cache: Path,
    stopwatch: Stopwatch,
    calibration: CalibrationSpec = CalibrationSpec(),  # noqa: B008  (frozen)
) -> Path:
    """The case's model as an ONNX file with static shapes and the workload's names for inputs and outputs.

    Inputs and weights have the precision's datatype; int8 and fp8 hold explicit quantise/dequantise pairs.

    Args:
        workload: the model.
        case: its precision, batch and sequence length shape the file.
        cache: folder for artefacts; this room keeps to ``onnx`` below it.
        stopwatch: times the stage ``export``, which a file from the cache does not enter.
        calibration: what sets the ranges of a quantised case: the build context's.

    Returns:
        Path of an intact file, which must not be written to.

    Raises:
        ExportError: the exporter refused the module, or what it made is not the model that was asked for.
        StorageError: the cache cannot be written.
        CalibrationError, BackendAbsentError: from quantising.
    """
    if case.precision.quantised:
        from trtgate.precision.quantise_onnx import quantise

        fp32 = _export(workload, case, Precision.FP32, cache, stopwatch)
        return quantise(fp32, workload, case, cache, calibration.for_precision(case.precision))
    return _export(workload, case, case.precision, cache, stopwatch)


def quantisation_facts(path: Path, precision: Precision) -> dict[str, object]:
    """What a record of a build keeps of how `export` quantised its file: ``calibration`` and ``skipped``, plain JSON.

    Args:
        path: from `export`.
        precision: of its case; empty facts for one that is not quantised.

    Raises:
        RecordError: the report beside the file is missing or damaged.
    """
    if not precision.quantised:
        return {}
    from trtgate.precision.quantise_onnx import report_of

    return report_of(path).facts()


def _export(workload: Workload, case: Case, precision: Precision, cache: Path, stopwatch: Stopwatch) -> Path:
    if precision is Precision.TF32:
        precision = Precision.FP32  # one file: TF32 is how a kernel multiplies, not what a tensor holds
    sequence = workload.checked_sequence(case.batch, case.sequence)
    key = artefacts.key(
        recipe=_RECIPE,
        fingerprint=workload.model_key,
        precision=precision,
        batch=case.batch,
        sequence=sequence,
        opset=OPSET,
        versions={package: importlib.metadata.version(package) for package in _PACKAGES},
    )
    shape = f"b{case.batch}" + (f"s{sequence}" if workload.has_sequence else "")
    path = cache / "onnx" / f"{workload.name}-{precision}-{shape}-{key}.onnx"
    if not artefacts.intact(path):
        with stopwatch.stage("export"):
            artefacts.write(path, lambda file: _write(workload, precision, case.batch, sequence, file))
    return path


def _write(workload: Workload, precision: Precision, batch: int, sequence: int | None, path: Path) -> None:
    module = prepare_to_export(workload, precision, batch, sequence)
    inputs = cast_inputs(workload.inputs(batch, sequence, _SEED), precision)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > _MAX_EMBEDDED_BYTES:
        raise ExportError(
            f"'{workload.name}' has {size / 2**30:.1f} GiB of weights; one ONNX file holds less than 2 GiB.",
            "Measure it in a smaller precision, or on eager and inductor only.",
        )
    name = f"'{workload.name}' in {precision}"
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(workload.input_names),
                output_names=list(workload.output_names),
                external_data=False,
                verbose=False,
                optimize=True,
                report=False,
            )
            assert program is not None
    except Exception as error:  # tracing runs the model's own code and dozens of translations, which raise anything
        raise ExportError(
            f"torch.onnx.export refused {name}: {_cause(error)}.", "Rewrite what it names in the model."
        ) from error
    _check(program, workload, name, inputs)
    program.save(path, external_data=False)


def _check(program: torch.onnx.ONNXProgram, workload: Workload, name: str, inputs: tuple[torch.Tensor, ...]) -> None:
    """Hold what was made against what was asked for: names, static shapes and datatypes."""
    graph = program.model.graph
    found = tuple(value.name for value in graph.inputs), tuple(value.name for value in graph.outputs)
    wanted = workload.input_names, workload.output_names
    if found != wanted:
        raise ExportError(
            f"The ONNX model of {name} has inputs and outputs {found} and not {wanted}.",
            "Name each tensor that the module takes and returns in the workload.",
        )
    for value, tensor in zip(graph.inputs, inputs, strict=True):
        shape = tuple(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else value.shape
        dtype = value.dtype.numpy().name if value.dtype is not None else "untyped"
        if shape != tuple(tensor.shape) or dtype != str(tensor.dtype).removeprefix("torch."):
            raise ExportError(
                f"Input '{value.name}' of the ONNX model of {name} is {dtype} {shape} and not {tensor.dtype} "
                f"{tuple(tensor.shape)}.",
                "Report this with your versions of torch and onnxscript.",
            )


def _cause(error: BaseException) -> str:
    """First line of the innermost error: the exporter wraps what happened into pages of advice."""
    while (inner := error.__cause__) is not None:
        error = inner
    return first_line(error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and advice from the terminal; its errors are exceptions and pass."""
    chatty = ("torch.onnx", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in chatty]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        # torch.export prints the whole graph of what it refuses, by print and not by a logger.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # deprecations inside torch that no user of this library can act on
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
