"""int8 and fp8 with explicit Q/DQ pairs, by NVIDIA ModelOpt on an fp32 ONNX model. Runs on the CPU, offline.

Two runtimes read the result, and they need different ones:

* TensorRT: everything that is not quantised becomes fp16, since a strongly typed engine keeps what the model says and
  fp32 there would hide what int8 gains; ModelOpt's rules, which know TensorRT's kernels, place the pairs. Its rule
  against matrix-vector products is off: it would quantise a model differently at batch 1 than at batch 8.
* ONNX Runtime on the CPU: everything else stays fp32, since its CPU kernels have no fp16. Every convolution and matrix
  product gets pairs, since TensorRT's rules of thumb (channels in multiples of 16) do not concern it, and gets one on
  its output too, since int8 kernels (QLinearConv, QLinearMatMul, QGemm) are chosen only where both ends are quantised.
  A transposed convolution gets none: there is no int8 kernel of it, and the pairs would only round.
  Activations are encoded unsigned, because its x86 kernels take uint8 times int8.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trtgate import artefacts
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import BackendAbsentError, RecordError, UnsupportedCaseError
from trtgate.precision import calibration, modelopt_onnx, quantisation_report
from trtgate.precision.calibration import CalibrationSpec, Placement
from trtgate.precision.modelopt_onnx import Style
from trtgate.precision.quantisation_report import QuantisationReport

if TYPE_CHECKING:
    import onnx

    from trtgate.workloads.base import Workload

# Raise it when this file changes what it makes of the same model.
_RECIPE: Final = 5
_PROTOBUF_LIMIT_BYTES: Final = 2**31 - 1

TENSORRT_STYLE: Final = Style("fp16", Placement.TENSORRT)
ONNXRUNTIME_STYLE: Final = Style(
    "fp32", Placement.EVERY, unsigned_activations=True, int8_operators=("Conv", "Gemm", "MatMul")
)


def style_for(backend: BackendName, placement: Placement = Placement.TENSORRT) -> Style:
    """The style of the runtime that will read the model; where an engine's pairs go can be chosen."""
    return ONNXRUNTIME_STYLE if backend is BackendName.ONNXRUNTIME else replace(TENSORRT_STYLE, placement=placement)


def quantise(
    onnx_path: Path,
    workload: Workload,
    case: Case,
    cache: Path,
    spec: CalibrationSpec = CalibrationSpec(),  # noqa: B008  (frozen)
    style: Style | None = None,
) -> Path:
    """Make the int8 or fp8 form of an fp32 ONNX model.

    Args:
        onnx_path: fp32 model of the workload, with a static shape of the case's batch, without Q/DQ nodes.
        workload: gives the calibration data.
        case: its precision, batch, sequence length and backend decide the form.
        cache: folder for artefacts; the result is kept in ``cache/quantised`` under a key of the model's bytes, the
            workload's fingerprint, spec, calibration data, style, and the versions of ModelOpt and ONNX Runtime.
        spec: calibration data and method.
        style: instead of the one that suits the case's backend.

    Returns:
        Path of the quantised model. `report_of` reads what was quantised and what was not.

    Raises:
        BackendAbsentError: ModelOpt is not installed.
        CalibrationError: unusable data, nothing to quantise, an unusable scale, or entropy for fp8.
        UnsupportedCaseError: the case's precision is not a quantised one, or the model is over 2 GB.
        BuildError: ModelOpt failed.
        StorageError: the cache cannot be written.
    """
    _check(case, spec, onnx_path)
    chosen = style or style_for(case.backend, spec.placement)
    versions = _versions()
    data = calibration.collect(workload, spec, case.sequence)
    key = artefacts.key(
        recipe=_RECIPE,
        model=artefacts.digest(onnx_path),
        workload=workload.model_key,
        precision=case.precision,
        batch=case.batch,
        sequence=case.sequence,
        calibration={**spec.to_json(), "data_sha256": data.sha256},
        style=asdict(chosen),
        versions=versions,
    )
    path = cache / "quantised" / f"{workload.name}-{case.precision}-{key}.onnx"
    if not _usable(path):
        model, warnings = modelopt_onnx.run(onnx_path, data.tensors, case.precision, case.batch, spec, chosen)
        report = quantisation_report.of_graph(
            model,
            precision=case.precision.value,
            high_precision=chosen.high_precision,
            placement=chosen.placement.value,
            calibration={**spec.to_json(), "placement": chosen.placement.value, "data_sha256": data.sha256},
            tool=f"modelopt.onnx {versions['nvidia-modelopt']}",
            warnings=warnings,
            operators=chosen.operators(case.precision),
        )
        artefacts.write(path, lambda made: _save(model, made))
        artefacts.write(_report_path(path), lambda made: _write_text(made, report.dumps()))
    return path


def report_of(path: Path) -> QuantisationReport:
    """What `quantise` did to the model that it returned.

    Raises:
        RecordError: the report beside the model is missing or damaged.
    """
    try:
        return QuantisationReport.loads(_report_path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"The quantisation report of {path.name} cannot be read ({error}).", "Quantise the model again."
        ) from None


def _check(case: Case, spec: CalibrationSpec, onnx_path: Path) -> None:
    if not case.precision.quantised:
        raise UnsupportedCaseError(
            f"The case '{case.id}' is {case.precision}, which is not a quantised precision.", "Ask for int8 or fp8."
        )
    if case.precision is Precision.FP8:
        calibration.refuse_entropy_for_fp8(spec)
    if onnx_path.stat().st_size > _PROTOBUF_LIMIT_BYTES:
        raise UnsupportedCaseError(
            f"{onnx_path.name} is over 2 GB, which is too large to quantise in one protobuf.",
            "Measure this workload in fp16 or bf16.",
        )


def _versions() -> dict[str, str]:
    try:
        return {name: metadata.version(name) for name in ("nvidia-modelopt", "onnxruntime", "onnx")}
    except metadata.PackageNotFoundError as error:
        raise BackendAbsentError(
            f"int8 and fp8 need NVIDIA ModelOpt, and '{error.name}' is not installed.",
            "Run 'pip install trtgate[quantize]'.",
        ) from None


def _usable(path: Path) -> bool:
    return artefacts.intact(path) and artefacts.intact(_report_path(path))


def _report_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _save(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    onnx.save(model, path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
