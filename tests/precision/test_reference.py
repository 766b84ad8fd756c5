import numpy as np
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from quantisable import BATCH, Tiny, exported

from trtgate.backends.host_cpu import EXACT_INT8
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import UnsupportedCaseError
from trtgate.precision import quantise_onnx, quantise_torch, reference
from trtgate.precision.calibration import CalibrationSpec
from trtgate.precision.sqnr import sqnr_db

pytest.importorskip("modelopt")

SPEC = CalibrationSpec(count=8)


@pytest.fixture(scope="module")
def workload():
    return Tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reference")


@pytest.fixture(scope="module")
def fp32(workload, folder):
    return exported(workload, folder)


def never():
    raise AssertionError("this backend reads no ONNX model")


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
@pytest.mark.parametrize("high_precision", ["fp32", "fp16"])
def test_of_an_onnx_model_is_that_model_as_onnx_defines_it(workload, folder, fp32, precision, high_precision):
    case = Case(workload.name, BackendName.TENSORRT_ENGINE, precision, BATCH)
    style = quantise_onnx.Style(high_precision, quantise_onnx.Placement.EVERY)
    path = quantise_onnx.quantise(fp32, workload, case, folder, SPEC, style)
    inputs = workload.inputs(BATCH, None, 5)
    (found,) = reference.reference_for(workload, case, folder, lambda: path)(inputs)
    (oracle,) = ReferenceEvaluator(str(path)).run(None, {"image": inputs[0].numpy()})
    # The evaluator also rounds every intermediate of the fp16 model to fp16.
    assert sqnr_db(torch.from_numpy(oracle), found) > (80 if high_precision == "fp32" else 30)
    exact = workload.module().double()(inputs[0].double())
    assert 15 < sqnr_db(exact, found) < 60


def test_an_int8_session_agrees_with_its_reference_far_better_than_with_float(workload, folder, fp32):
    case = Case(workload.name, BackendName.ONNXRUNTIME, Precision.INT8, BATCH)
    path = quantise_onnx.quantise(fp32, workload, case, folder, SPEC)
    inputs = workload.inputs(BATCH, None, 5)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_INT8)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    output = torch.from_numpy(session.run(None, {"image": inputs[0].numpy()})[0])
    (found,) = reference.reference_for(workload, case, folder, lambda: path)(inputs)
    (exact,) = reference.onnx_reference(fp32)(inputs)
    assert sqnr_db(found, output) > sqnr_db(exact, output) + 3
    assert np.isfinite(output.numpy()).all()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_of_torch_tensorrt_is_the_module_it_compiles(workload, folder, precision):
    case = Case(workload.name, BackendName.TORCH_TENSORRT, precision, BATCH)
    inputs = workload.inputs(BATCH, None, 5)
    (found,) = reference.reference_for(workload, case, folder, never, SPEC)(inputs)
    assert found.dtype == torch.float64
    module = quantise_torch.fake_quantised(workload, precision, folder, torch.device("cpu"), SPEC)
    assert sqnr_db(found, module(*inputs)) > 40


def test_float_cases_and_backends_without_quantisation_have_none(workload, folder):
    with pytest.raises(UnsupportedCaseError, match="is not quantised"):
        reference.reference_for(workload, Case("a", BackendName.EAGER, Precision.FP16, 1), folder, never)
    with pytest.raises(UnsupportedCaseError, match="'eager' does not run int8"):
        reference.reference_for(workload, Case("a", BackendName.EAGER, Precision.INT8, 1), folder, never)
