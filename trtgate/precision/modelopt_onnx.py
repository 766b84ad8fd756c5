"""Runs ModelOpt's ONNX quantiser: quietly, in a scratch folder, calibrating on the CPU."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from trtgate.case import Precision
from trtgate.errors import BackendAbsentError, BuildError, CalibrationError
from trtgate.precision import calibration
from trtgate.precision.calibration import CalibrationSpec, Placement

if TYPE_CHECKING:
    import onnx
    import torch

# Scales of fp8 and fp16 exist from this version of the ONNX operator set on.
_OPSET: Final = 19
_OUTPUT_QUANTISED: Final = ("Conv", "Gemm", "MatMul")
# ModelOpt's fp8 quantiser refuses any operator but these, convolutions and matrix products among them.
_FP8_OPERATORS: Final = ("Conv", "Gemm", "MatMul")
_MODELOPT_IS_NOT_REENTRANT: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Style:
    """The form that a runtime needs.

    Args:
        high_precision: datatype of everything that is not quantised.
        placement: which nodes are quantised.
        unsigned_activations: write int8 activations as uint8 with zero point 128, the same numbers in another
            encoding, which is what ONNX Runtime's x86 kernels multiply with int8 weights.
        int8_operators: of which the runtime has int8 kernels and ModelOpt a quantised form.
    """

    high_precision: Literal["fp32", "fp16", "bf16"]
    placement: Placement
    unsigned_activations: bool = False
    int8_operators: tuple[str, ...] = ("Conv", "ConvTranspose", "Gemm", "MatMul")

    def operators(self, precision: Precision) -> tuple[str, ...]:
        """Operators that can be quantised to a precision."""
        return self.int8_operators if precision is Precision.INT8 else _FP8_OPERATORS


def run(
    onnx_path: Path,
    data: Sequence[torch.Tensor],
    precision: Precision,
    batch: int,
    spec: CalibrationSpec,
    style: Style,
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Quantise a model.

    Args:
        onnx_path: fp32 model with a static batch size.
        data: calibration examples, one tensor an input, already checked.
        precision: int8 or fp8.
        batch: the model's batch size.
        spec: how ranges are chosen.
        style: the form that the runtime needs.

    Returns:
        The model with Q/DQ pairs, and ModelOpt's warnings.

    Raises:
        BackendAbsentError: ModelOpt cannot be imported.
        CalibrationError: the model takes another number of inputs.
        BuildError: ModelOpt failed.
    """
    import onnx

    # A scratch folder, because ModelOpt leaves intermediate models beside its input and its output.
    with (
        tempfile.TemporaryDirectory(prefix="trtgate-quantise-") as name,
        _MODELOPT_IS_NOT_REENTRANT,
        _captured() as warnings,
    ):
        folder = Path(name)
        model = onnx.load(onnx_path)
        reader = _reader(model, data, batch)
        if _opset(model) < _OPSET:
            model = onnx.version_converter.convert_version(model, _OPSET)
        source = folder / "model.onnx"
        onnx.save(model, source)
        try:
            if style.placement is Placement.EVERY:
                quantised = _every(source, model, reader, precision, spec, style)
            else:
                quantised = _tensorrt(source, folder / "quantised.onnx", reader, precision, spec, style)
        except ImportError as error:
            raise BackendAbsentError(
                f"int8 and fp8 need NVIDIA ModelOpt, which cannot be imported here ({error}).",
                "Run 'pip install trtgate[quantize]'.",
            ) from error
        # ModelOpt documents no exceptions of its own: it raises whatever its asserts, numpy, onnx or ONNX Runtime do.
        except Exception as error:
            raise BuildError(
                f"ModelOpt could not quantise {onnx_path.name} to {precision} ({type(error).__name__}: {error}).",
                "Check that this ONNX model runs in ONNX Runtime; if it does, report this to ModelOpt.",
            ) from error
    if style.unsigned_activations and precision is Precision.INT8:
        _make_activations_unsigned(quantised)
    return quantised, tuple(dict.fromkeys(warnings))


def _tensorrt(
    source: Path, target: Path, reader: Any, precision: Precision, spec: CalibrationSpec, style: Style
) -> onnx.ModelProto:
    import onnx
    from modelopt.onnx.quantization import quantize

    quantize(
        str(source),
        quantize_mode=precision.value,
        calibration_method=spec.method.value,
        calibration_data_reader=reader,
        calibration_eps=["cpu"],
        output_path=str(target),
        log_level="WARNING",
        high_precision_dtype=style.high_precision,
        enable_gemv_detection_for_trt=False,
    )
    return onnx.load(target)


def _every(
    source: Path, model: onnx.ModelProto, reader: Any, precision: Precision, spec: CalibrationSpec, style: Style
) -> onnx.ModelProto:
    """Name the nodes to quantise, the way ModelOpt's own autotuner does, past its rules for TensorRT's kernels."""
    from modelopt.onnx.quantization import fp8, int8

    operators = sorted(set(style.operators(precision)) & {node.op_type for node in model.graph.node})
    scratch: list[str] = []
    try:
        quantised: onnx.ModelProto = (int8 if precision is Precision.INT8 else fp8).quantize(
            str(source),
            calibration_method=spec.method.value,
            calibration_data_reader=reader,
            calibration_eps=["cpu"],
            op_types_to_quantize=operators,
            nodes_to_quantize=[node.name for node in model.graph.node if node.op_type in operators],
            nodes_to_exclude=[],
            intermediate_generated_files=scratch,
            high_precision_dtype=style.high_precision,
            log_level="WARNING",
            autotune=True,
            no_quantize_inputs=[],
            op_types_needing_output_quant=list(_OUTPUT_QUANTISED) if precision is Precision.INT8 else None,
        )
    finally:
        for file in scratch:
            Path(file).unlink(missing_ok=True)
    return quantised


def _make_activations_unsigned(model: onnx.ModelProto) -> None:
    """Move every quantised activation up by 128, which changes its encoding and not its value.

    ONNX Runtime does this itself only where a QuantizeLinear feeds a single DequantizeLinear, and on x86 leaves the
    convolution behind any other one, such as the start of a residual branch, in floating point.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name for tensor in model.graph.initializer}
    encoded = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants
    }
    zero_point = numpy_helper.from_array(np.array(128, np.uint8), "activation_zero_point_uint8")
    model.graph.initializer.append(zero_point)
    for node in model.graph.node:
        if (node.op_type == "QuantizeLinear" and node.output[0] in encoded) or (
            node.op_type == "DequantizeLinear" and node.input[0] in encoded
        ):
            node.input[2] = zero_point.name
    # ONNX Runtime warns of every constant that nothing reads.
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for value in model.graph.value_info:
        if value.name in encoded:
            value.type.tensor_type.elem_type = TensorProto.UINT8


def _opset(model: onnx.ModelProto) -> int:
    return int(next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0))


def _reader(model: onnx.ModelProto, data: Sequence[Any], batch: int) -> Any:
    """Feed the calibration data in whole batches, as often as ModelOpt rewinds."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    names = [value.name for value in model.graph.input]
    if len(names) != len(data):
        raise CalibrationError(
            f"The ONNX model takes {len(names)} inputs ({', '.join(names)}) and there are {len(data)} calibration "
            "inputs.",
            "Export the model with all of the workload's inputs.",
        )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = [
                {name: tensor.numpy() for name, tensor in zip(names, rows, strict=True)}
                for rows in calibration.batches(data, batch)
            ]
            self.rewind()

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

        def get_first(self) -> dict[str, Any]:
            return self._feeds[0]

        def rewind(self) -> None:
            self._left = iter(self._feeds)

    return Reader()


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Keep ModelOpt's prints, progress bars and log records off the terminal; yield its warnings."""
    warnings: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            # It asks NVML for GPUs even when it calibrates on the CPU; their absence is no news.
            if record.levelno >= logging.WARNING and "GPU count" not in text:
                warnings.append(text)

    # ModelOpt clears the handlers of "modelopt.onnx" at every call, so its parent listens.
    parent, child = logging.getLogger("modelopt"), logging.getLogger("modelopt.onnx")
    keep, propagates = Keep(), parent.propagate
    parent.addHandler(keep)
    parent.propagate = False
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield warnings
    finally:
        parent.removeHandler(keep)
        parent.propagate = propagates
        # Its console handlers hold the streams that were swapped in above.
        child.handlers.clear()
