"""What was made of one set of data is never used for another, and a warm cache does not let bad data pass."""

from pathlib import Path

import pytest
import torch
from quantisable import BATCH, Tiny, exported

from trtgate.case import BackendName, Case, Precision
from trtgate.errors import CalibrationError
from trtgate.precision import quantise_onnx, quantise_torch
from trtgate.precision.calibration import CalibrationSpec

pytest.importorskip("modelopt")

SPEC = CalibrationSpec(count=10)
CASE = Case("tiny_convnet", BackendName.TENSORRT_ENGINE, Precision.INT8, BATCH)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory) -> Path:
    return exported(Tiny(), tmp_path_factory.mktemp("fp32"))


def of_onnx(workload, fp32, cache):
    report = quantise_onnx.report_of(quantise_onnx.quantise(fp32, workload, CASE, cache, SPEC))
    return report, max(report.ranges.values())


def of_torch(workload, fp32, cache):
    module = quantise_torch.fake_quantised(workload, Precision.INT8, cache, torch.device("cpu"), SPEC)
    report = quantise_torch.report_of(module)
    return report, max(report.ranges.values())


@pytest.mark.parametrize("quantised", [of_onnx, of_torch])
def test_data_is_checked_and_told_apart_although_the_cache_is_warm(quantised, fp32, tmp_path):
    first, narrow = quantised(Tiny(), fp32, tmp_path)
    files = sorted(tmp_path.rglob("*"))

    other = Tiny()
    other.data = (3 * Tiny().calibration_inputs(SPEC.count, None, SPEC.seed)[0],)
    second, wide = quantised(other, fp32, tmp_path)
    assert wide > 2 * narrow
    assert first.calibration["data_sha256"] != second.calibration["data_sha256"]
    assert len(sorted(tmp_path.rglob("*"))) > len(files)

    broken = Tiny()
    broken.data = (torch.full((SPEC.count, 3, 16, 16), float("nan")),)
    with pytest.raises(CalibrationError, match="not finite"):
        quantised(broken, fp32, tmp_path)
