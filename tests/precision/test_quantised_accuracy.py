"""simple_cnn on held-out digits: int8 and fp8 may cost at most half a point of top-1 accuracy."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from quantisable import exported

from trtgate.case import BackendName, Case, Precision
from trtgate.precision import quantise_onnx, quantise_torch, reference
from trtgate.precision.calibration import CalibrationSpec, Method
from trtgate.workloads.simple_cnn import SimpleCNNWorkload

pytest.importorskip("modelopt")
pytestmark = pytest.mark.slow

MAX_DROP_POINTS = 0.5
BATCH = 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("accuracy")


@pytest.fixture(scope="module")
def workload(folder):
    return SimpleCNNWorkload(folder)


@pytest.fixture(scope="module")
def fp32(workload, folder):
    return exported(workload, folder, BATCH)


def top1_percent(workload, run) -> float:
    """Of a function on batches of exactly `BATCH` digits."""
    images, labels = workload.evaluation()
    assert len(images) % BATCH == 0
    logits = torch.cat([run((rows,))[0] for rows in images.split(BATCH)])
    assert logits.isfinite().all()
    return 100 * float((logits.argmax(dim=1) == labels).double().mean())


@pytest.fixture(scope="module")
def fp32_top1(workload) -> float:
    module = workload.module()
    with torch.no_grad():
        return top1_percent(workload, lambda inputs: (module(*inputs),))


def session(path):
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: (torch.from_numpy(found.run(None, {"image": inputs[0].numpy()})[0]),)


@pytest.mark.parametrize("method", list(Method))
def test_int8_through_onnxruntime_as_it_runs(workload, folder, fp32, fp32_top1, method):
    case = Case("simple_cnn", BackendName.ONNXRUNTIME, Precision.INT8, BATCH)
    path = quantise_onnx.quantise(fp32, workload, case, folder, CalibrationSpec(method=method))
    assert {"Conv", "Gemm"} <= {node.operator for node in quantise_onnx.report_of(path).quantised}
    assert fp32_top1 - top1_percent(workload, session(path)) <= MAX_DROP_POINTS


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
@pytest.mark.parametrize(
    "style", [quantise_onnx.TENSORRT_STYLE, quantise_onnx.ONNXRUNTIME_STYLE], ids=["tensorrt", "every"]
)
def test_the_onnx_model_of_an_engine(workload, folder, fp32, fp32_top1, precision, style):
    case = Case("simple_cnn", BackendName.TENSORRT_ENGINE, precision, BATCH)
    path = quantise_onnx.quantise(fp32, workload, case, folder, style=style)
    run = reference.reference_for(workload, case, folder, lambda: path)
    assert fp32_top1 - top1_percent(workload, run) <= MAX_DROP_POINTS


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_the_module_of_torch_tensorrt(workload, folder, fp32_top1, precision):
    module = quantise_torch.fake_quantised(workload, precision, folder, torch.device("cpu"))
    assert len(quantise_torch.report_of(module).quantised) == 4
    with torch.no_grad():
        assert fp32_top1 - top1_percent(workload, lambda inputs: (module(*inputs),)) <= MAX_DROP_POINTS


def test_wrong_scales_would_be_noticed(workload, folder, fp32, fp32_top1):
    case = Case("simple_cnn", BackendName.ONNXRUNTIME, Precision.INT8, BATCH)
    model = onnx.load(quantise_onnx.quantise(fp32, workload, case, folder))
    (scale,) = [item for item in model.graph.initializer if item.name == "image_scale"]
    scale.CopyFrom(
        onnx.numpy_helper.from_array(np.array(0.2, np.float32) * onnx.numpy_helper.to_array(scale), scale.name)
    )
    broken = folder / "broken.onnx"
    onnx.save(model, broken)
    assert fp32_top1 - top1_percent(workload, session(broken)) > MAX_DROP_POINTS
