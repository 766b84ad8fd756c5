"""int8 and fp8 fake quantisation of a PyTorch module, by NVIDIA ModelOpt.

The module that results computes in float with every quantised tensor rounded to its grid. It is what Torch-TensorRT
compiles, and what its engine is compared with. Works on the CPU too: there ModelOpt rounds with plain PyTorch operators
(int8 and fp8 alike), on a GPU with CUDA extensions that it compiles at first use.

Weights of convolutions and linear layers are quantised per output channel in int8 and per tensor in fp8, activations
per tensor; that is ModelOpt's INT8_DEFAULT_CFG and FP8_DEFAULT_CFG. Everything else stays in the module's datatype.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from trtgate import artefacts
from trtgate.case import Precision
from trtgate.errors import BackendAbsentError, CalibrationError, ExportError, UnsupportedCaseError
from trtgate.precision import calibration
from trtgate.precision.calibration import CalibrationSpec, Method
from trtgate.precision.quantisation_report import Node, QuantisationReport

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

# Raise it when this file changes what it makes of the same module.
_RECIPE: Final = 2
_BATCH: Final = 16
# Every threshold tried costs a pass over the histogram in Python; each 8th of 2048 bins is within 0.4% of the range.
_ENTROPY_STRIDE: Final = 8
_PLACEMENT: Final = "modelopt.torch"
_REPORT: Final = "trtgate_quantisation_report"


def fake_quantised(
    workload: Workload,
    precision: Precision,
    cache: Path,
    device: torch.device,
    spec: CalibrationSpec = CalibrationSpec(),  # noqa: B008  (frozen)
    sequence: int | None = None,
) -> torch.nn.Module:
    """A new float32 module of the workload with calibrated quantisers, in eval mode.

    Args:
        workload: whose module and calibration data.
        precision: int8 or fp8.
        cache: ranges are kept in ``cache/quantised``; a module whose ranges are cached is not calibrated again.
        device: where the module ends up. Calibration runs on the CPU, so that its result is the same everywhere.
        spec: calibration data and method.
        sequence: tokens an input, for workloads with the dimension.

    Raises:
        BackendAbsentError: ModelOpt is not installed.
        CalibrationError: unusable data, nothing to quantise, a range that is not finite, or entropy for fp8.
        UnsupportedCaseError: not a quantised precision.
        StorageError: the cache cannot be written.
    """
    key = cache_key(workload, precision, spec, sequence)
    data = calibration.collect(workload, spec, workload.checked_sequence(1, sequence))
    path = cache / "quantised" / f"{workload.name}-{precision}-{artefacts.key(**key)}.pt"
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(cache / "torch_extensions"))
    with _quiet() as said:
        module = _with_quantisers(workload, precision, spec)
        if artefacts.intact(path):
            ranges: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
        else:
            ranges = _calibrated(module, data.tensors)
            _check_ranges(workload, precision, ranges)
            artefacts.write(path, lambda made: torch.save(ranges, made))
        _load_ranges(module, ranges)
    report = _report(
        module,
        precision=precision.value,
        high_precision="fp32",
        placement=_PLACEMENT,
        calibration={**spec.to_json(), "placement": _PLACEMENT, "data_sha256": data.sha256},
        tool=f"modelopt.torch {key['modelopt']}",
        warnings=tuple(dict.fromkeys(said)),
    )
    setattr(module, _REPORT, report)
    return module.eval().requires_grad_(False).to(device)


def cache_key(
    workload: Workload, precision: Precision, spec: CalibrationSpec, sequence: int | None
) -> dict[str, object]:
    """Everything that shapes what `fake_quantised` makes, as plain JSON: the key of whatever is made of its module.

    Raises:
        BackendAbsentError, CalibrationError, UnsupportedCaseError: as `fake_quantised`.
    """
    _check(precision, spec)
    version = _modelopt_version()
    tokens = workload.checked_sequence(1, sequence)
    return {
        "recipe": _RECIPE,
        "workload": workload.model_key,
        "precision": precision.value,
        "sequence": tokens,
        "calibration": {**spec.to_json(), "data_sha256": calibration.collect(workload, spec, tokens).sha256},
        "modelopt": version,
    }


def report_of(module: torch.nn.Module) -> QuantisationReport:
    """What `fake_quantised` did to the module that it returned."""
    report = getattr(module, _REPORT)
    assert isinstance(report, QuantisationReport)
    return report


def export(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> torch.export.ExportedProgram:
    """Export a fake-quantised module with its quantisers as ``tensorrt::quantize_op``, for Torch-TensorRT.

    Args:
        module: from `fake_quantised`. An int8 module must be on a GPU: on the CPU, ModelOpt's int8 rounding branches on
            the ranges' values, which cannot be traced.
        inputs: example inputs on the module's device.

    Raises:
        ExportError: the module cannot be traced.
    """
    from modelopt.torch.quantization.utils import export_torch_mode

    try:
        with _quiet(), export_torch_mode(), torch.no_grad():
            return torch.export.export(module, tuple(inputs), strict=False)
    # torch.export raises many unrelated types, some of them private.
    except Exception as error:
        place = inputs[0].device.type
        raise ExportError(
            f"The fake-quantised module could not be exported on {place} ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}).",
            "Export int8 modules on a GPU." if place == "cpu" else "Measure this workload through tensorrt_engine.",
        ) from error


def _check(precision: Precision, spec: CalibrationSpec) -> None:
    if not precision.quantised:
        raise UnsupportedCaseError(f"{precision} is not a quantised precision.", "Ask for int8 or fp8.")
    if precision is Precision.FP8:
        calibration.refuse_entropy_for_fp8(spec)


def _modelopt_version() -> str:
    try:
        return metadata.version("nvidia-modelopt")
    except metadata.PackageNotFoundError:
        raise BackendAbsentError(
            "int8 and fp8 need NVIDIA ModelOpt, and 'nvidia-modelopt' is not installed.",
            "Run 'pip install trtgate[quantize]'.",
        ) from None


def _with_quantisers(workload: Workload, precision: Precision, spec: CalibrationSpec) -> torch.nn.Module:
    try:
        import modelopt.torch.quantization as mtq
    except ImportError as error:
        raise BackendAbsentError(
            f"int8 and fp8 need NVIDIA ModelOpt, which cannot be imported here ({error}).",
            "Run 'pip install trtgate[quantize]'.",
        ) from error

    config = copy.deepcopy(mtq.INT8_DEFAULT_CFG if precision is Precision.INT8 else mtq.FP8_DEFAULT_CFG)
    config["algorithm"] = None
    module = workload.module()
    kinds = sorted({type(child).__name__ for child in module.modules() if list(child.parameters(recurse=False))})
    try:
        quantised: torch.nn.Module = mtq.quantize(module, config)
    except RuntimeError as error:
        # ModelOpt 0.47 refuses a model without one layer that it quantises; earlier ones return it as it was.
        if "no weight quantizer" not in str(error):
            raise
        quantised = module
    if not any(name.endswith("weight_quantizer") for name in _quantisers(quantised)):
        raise CalibrationError(
            f"There is nothing to quantise to {precision} in '{workload.name}': ModelOpt quantises convolutions and "
            f"linear layers, and the modules with weights are {', '.join(kinds) or 'none'}.",
            "Measure this workload in fp16.",
        )
    if spec.method is Method.ENTROPY:
        from modelopt.torch.quantization.calib import HistogramCalibrator

        for name, quantiser in _quantisers(quantised).items():
            # Weights keep their full range: they are known exactly, and a histogram has no channels.
            if name.endswith("input_quantizer"):
                quantiser._calibrator = HistogramCalibrator(num_bits=8, axis=None, unsigned=False)
    return quantised


def _quantisers(module: torch.nn.Module) -> dict[str, Any]:
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {
        name: child for name, child in module.named_modules() if isinstance(child, TensorQuantizer) and child.is_enabled
    }


def _calibrated(module: torch.nn.Module, data: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Run the data through, and return the largest magnitude of every quantiser that saw values, by name."""
    quantisers = _quantisers(module)
    for quantiser in quantisers.values():
        quantiser.disable_quant()
        quantiser.enable_calib()
    with torch.no_grad():
        for rows in calibration.batches(data, min(_BATCH, data[0].shape[0])):
            module(*rows)
    ranges = {}
    for name, quantiser in quantisers.items():
        if _entropy(quantiser):
            amax = quantiser._calibrator.compute_amax("entropy", stride=_ENTROPY_STRIDE)
        else:
            amax = quantiser._calibrator.compute_amax()
        if amax is not None:
            ranges[name] = torch.as_tensor(amax, dtype=torch.float32).detach().clone()
        quantiser.disable_calib()
        quantiser.enable_quant()
    return ranges


def _entropy(quantiser: Any) -> bool:
    from modelopt.torch.quantization.calib import HistogramCalibrator

    return isinstance(quantiser._calibrator, HistogramCalibrator)


def _load_ranges(module: torch.nn.Module, ranges: dict[str, torch.Tensor]) -> None:
    for name, quantiser in _quantisers(module).items():
        if name in ranges:
            quantiser.amax = ranges[name]
        else:
            # Its layer's own forward is never called, as in nn.MultiheadAttention: it would quantise by nothing.
            quantiser.disable()


def _check_ranges(workload: Workload, precision: Precision, ranges: dict[str, torch.Tensor]) -> None:
    for name, amax in ranges.items():
        largest = float(amax.max())
        if not math.isfinite(largest) or largest <= 0.0:
            raise CalibrationError(
                f"Calibrating '{workload.name}' for {precision} gave '{name}' the range {largest}.",
                "Look for a layer whose input is always zero or overflows, and calibrate with other data.",
            )


def _report(module: torch.nn.Module, **fields: Any) -> QuantisationReport:
    quantisers = _quantisers(module)
    quantised, skipped = [], []
    for name, child in module.named_modules():
        node = Node(name, type(child).__name__)
        if {f"{name}.input_quantizer", f"{name}.weight_quantizer"} & quantisers.keys():
            quantised.append(node)
        elif _multiplies(child):
            skipped.append(Node(node.name, node.operator, _reason(child)))
    ranges = {name: float(q.amax.max()) for name, q in quantisers.items() if name.endswith("input_quantizer")}
    return QuantisationReport(quantised=tuple(quantised), skipped=tuple(skipped), ranges=ranges, **fields)


def _multiplies(module: torch.nn.Module) -> bool:
    """Whether a module has a weight matrix of its own; a norm's scale is a vector, and an embedding is only read."""
    return not isinstance(module, torch.nn.Embedding) and any(
        name.endswith("weight") and weight.ndim > 1 for name, weight in module.named_parameters(recurse=False)
    )


def _reason(module: torch.nn.Module) -> str:
    if hasattr(module, "weight_quantizer"):
        return "calibration never called it: another module reads its weight"
    return "ModelOpt has no quantised form of it"


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep ModelOpt's prints off the terminal; yield the warnings that it gave."""
    said: list[str] = []
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("always")
        try:
            yield said
        finally:
            said.extend(str(item.message) for item in caught if "modelopt" in item.filename)
