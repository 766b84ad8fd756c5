from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from quantisable import BATCH, Elementwise, Tiny, exported
from torch import nn

from trtgate import artefacts
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import BackendAbsentError, CalibrationError, RecordError, UnsupportedCaseError
from trtgate.precision import modelopt_onnx, quantisation_report, quantise_onnx, reference
from trtgate.precision.calibration import CalibrationSpec, Method
from trtgate.precision.quantisation_report import QuantisationReport

pytest.importorskip("modelopt")

ORT, TRT = BackendName.ONNXRUNTIME, BackendName.TENSORRT_ENGINE
SPEC = CalibrationSpec(count=10)


def case_of(backend: BackendName, precision: Precision) -> Case:
    return Case("tiny_convnet", backend, precision, BATCH)


@pytest.fixture(scope="module")
def workload() -> Tiny:
    return Tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def fp32(workload, folder) -> Path:
    return exported(workload, folder)


def optimised(path: Path, folder: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_onnxruntime_computes_every_convolution_and_product_in_int8(workload, folder, fp32):
    path = quantise_onnx.quantise(fp32, workload, case_of(ORT, Precision.INT8), folder, SPEC)
    found = optimised(path, folder)
    assert (found["QLinearConv"], found["QGemm"]) == (2, 2)
    assert not found.keys() & {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul"}


def test_unsigned_activations_are_the_same_numbers(workload, folder, fp32):
    case = case_of(ORT, Precision.INT8)
    (inputs,) = workload.inputs(BATCH, None, 5)
    found = []
    for unsigned in (False, True):
        style = quantise_onnx.Style("fp32", quantise_onnx.Placement.EVERY, unsigned)
        path = quantise_onnx.quantise(fp32, workload, case, folder, SPEC, style)
        kinds = {item.data_type for item in onnx.load(path).graph.initializer}
        assert (TensorProto.UINT8 in kinds) == unsigned
        found.append(reference.onnx_reference(path)((inputs,))[0])
    assert torch.equal(*found)


class Residual(nn.Module):
    """The input of the branch is quantised once and read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        start = torch.relu(self.stem(image))
        return start + self.right(torch.relu(self.left(start)))


def test_onnxruntime_computes_residual_branches_in_int8_too(tmp_path):
    workload = Tiny(Residual, (3, 8, 8))
    case = Case(workload.name, ORT, Precision.INT8, BATCH)
    path = quantise_onnx.quantise(exported(workload, tmp_path), workload, case, tmp_path, SPEC)
    found = optimised(path, tmp_path)
    assert found["QLinearConv"] == 3
    assert not found.keys() & {"Conv", "FusedConv"}


class Products(nn.Module):
    """A linear layer on tokens, which exports as MatMul and Add, and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.fc(image))
        return hidden @ hidden.transpose(1, 2)


def test_onnxruntime_computes_matrix_products_in_int8_without_a_warning(tmp_path, capfd):
    workload = Tiny(Products, (4, 16))
    case = Case(workload.name, ORT, Precision.INT8, BATCH)
    path = quantise_onnx.quantise(exported(workload, tmp_path), workload, case, tmp_path, SPEC)
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""
    found = optimised(path, tmp_path)
    assert found["QLinearMatMul"] == 2
    assert not found.keys() & {"MatMul", "Gemm", "FusedMatMul"}


def test_a_max_range_is_the_largest_magnitude_of_the_calibration_data(workload, folder, fp32):
    path = quantise_onnx.quantise(fp32, workload, case_of(ORT, Precision.INT8), folder, SPEC)
    report = quantise_onnx.report_of(path)
    (data,) = workload.calibration_inputs(SPEC.count, None, SPEC.seed)
    assert report.ranges["image"] == pytest.approx(float(data.abs().max()), rel=1e-6)
    # Ten examples in batches of four: the last batch is filled up, none is left out.
    hidden = torch.relu(torch.max_pool2d(workload.module().conv(data), 2))
    assert any(found == pytest.approx(float(hidden.max()), rel=1e-5) for found in report.ranges.values())


def test_entropy_clips(workload, folder, fp32):
    case = case_of(ORT, Precision.INT8)
    widest = quantise_onnx.report_of(quantise_onnx.quantise(fp32, workload, case, folder, SPEC)).ranges
    entropy = CalibrationSpec(SPEC.count, SPEC.seed, Method.ENTROPY)
    clipped = quantise_onnx.report_of(quantise_onnx.quantise(fp32, workload, case, folder, entropy)).ranges
    assert clipped.keys() == widest.keys()
    assert all(clipped[name] <= widest[name] * 1.01 for name in widest)
    assert sum(clipped[name] < 0.98 * widest[name] for name in widest) >= 2


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_for_tensorrt_the_rest_is_fp16_and_what_was_skipped_is_named(workload, folder, fp32, precision):
    path = quantise_onnx.quantise(fp32, workload, case_of(TRT, precision), folder, SPEC)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [1, 1]
    weights = [item for item in model.graph.initializer if len(item.dims) == 4]
    assert weights
    assert all(item.data_type == TensorProto.FLOAT16 for item in weights)
    zero_points = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    kinds = {item.data_type for item in model.graph.initializer if item.name in zero_points}
    assert kinds == {TensorProto.INT8 if precision is Precision.INT8 else TensorProto.FLOAT8E4M3FN}
    report = quantise_onnx.report_of(path)
    assert (report.high_precision, report.placement) == ("fp16", "tensorrt")
    assert {"Gemm"} <= {node.operator for node in report.quantised}
    # ModelOpt's rule for fp8: no convolution of 16 channels or fewer.
    skipped = (
        []
        if precision is Precision.INT8
        else [
            "weight [16, 3, 3, 3]: fewer than 16 channels",
            "weight [32, 16, 3, 3]: only 16 channels in fp8",
        ]
    )
    assert [(node.note, node.by_rule) for node in report.skipped] == [(note, True) for note in skipped]
    assert {node.operator for node in report.skipped} == ({"Conv"} if skipped else set())


def test_the_report_names_its_data_and_its_tool(workload, folder, fp32):
    report = quantise_onnx.report_of(quantise_onnx.quantise(fp32, workload, case_of(TRT, Precision.INT8), folder, SPEC))
    assert report.tool == f"modelopt.onnx {metadata.version('nvidia-modelopt')}"
    assert report.calibration["count"] == SPEC.count
    assert report.calibration["seed"] == SPEC.seed
    assert report.calibration["method"] == "max"
    assert len(report.calibration["data_sha256"]) == 64
    assert QuantisationReport.loads(report.dumps()) == report


def test_a_report_of_another_version_is_refused():
    with pytest.raises(RecordError, match="another schema"):
        QuantisationReport.loads('{"schema": 99}')
    with pytest.raises(RecordError):
        QuantisationReport.loads("[]")


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path) -> Path:
        return tmp_path

    @pytest.fixture
    def runs(self, monkeypatch) -> list[str]:
        """One entry each time that ModelOpt runs."""
        seen, run = [], modelopt_onnx.run
        monkeypatch.setattr(modelopt_onnx, "run", lambda *given: (seen.append("run"), run(*given))[1])
        return seen

    def quantise(self, fp32, workload, cache, spec=SPEC, backend=ORT):
        return quantise_onnx.quantise(fp32, workload, case_of(backend, Precision.INT8), cache, spec)

    def test_the_same_is_made_once(self, fp32, workload, cache, runs):
        assert self.quantise(fp32, workload, cache) == self.quantise(fp32, workload, cache)
        assert len(runs) == 1

    def test_whatever_shapes_the_result_is_in_the_key(self, fp32, workload, cache, runs, tmp_path):
        altered = onnx.load(fp32)
        altered.doc_string = "another model"
        other = tmp_path / "other.onnx"
        onnx.save(altered, other)
        paths = {
            self.quantise(fp32, workload, cache),
            self.quantise(fp32, workload, cache, CalibrationSpec(SPEC.count, seed=1)),
            self.quantise(fp32, workload, cache, CalibrationSpec(SPEC.count + 1)),
            self.quantise(fp32, workload, cache, backend=TRT),
            self.quantise(other, workload, cache),
        }
        assert len(paths) == len(runs) == 5

    @pytest.mark.parametrize("suffix", [".onnx", ".json"])
    def test_a_damaged_file_is_made_again(self, fp32, workload, cache, runs, suffix):
        path = self.quantise(fp32, workload, cache)
        report = quantise_onnx.report_of(path)
        damaged = path.with_suffix(suffix)
        damaged.write_bytes(damaged.read_bytes()[:-7])
        assert self.quantise(fp32, workload, cache) == path
        assert len(runs) == 2
        assert artefacts.intact(path)
        assert quantise_onnx.report_of(path) == report

    def test_nothing_is_kept_of_bad_data(self, fp32, cache):
        workload = Tiny()
        workload.data = (torch.full((2, 3, 16, 16), float("nan")),)
        with pytest.raises(CalibrationError, match="not finite"):
            self.quantise(fp32, workload, cache)
        assert not list(cache.rglob("*.onnx"))


@pytest.mark.parametrize("backend", [ORT, TRT])
def test_nothing_to_quantise_is_said_with_the_operators_that_are_there(tmp_path, backend):
    workload = Tiny(Elementwise, (16,))
    path = exported(workload, tmp_path)
    case = Case(workload.name, backend, Precision.INT8, BATCH)
    with pytest.raises(CalibrationError, match=r"nothing to quantise to int8.*Tanh"):
        quantise_onnx.quantise(path, workload, case, tmp_path, SPEC)


def test_it_is_silent(fp32, workload, tmp_path, capfd, caplog):
    quantise_onnx.quantise(fp32, workload, case_of(TRT, Precision.INT8), tmp_path, SPEC)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_without_modelopt_it_says_how_to_get_it(fp32, workload, tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(quantise_onnx.metadata, "version", absent)
    with pytest.raises(BackendAbsentError, match=r"'nvidia-modelopt' is not installed.*trtgate\[quantize\]"):
        quantise_onnx.quantise(fp32, workload, case_of(ORT, Precision.INT8), tmp_path, SPEC)


def test_other_precisions_and_entropy_for_fp8_are_refused(fp32, workload, tmp_path):
    with pytest.raises(UnsupportedCaseError, match="is fp16"):
        quantise_onnx.quantise(fp32, workload, case_of(ORT, Precision.FP16), tmp_path, SPEC)
    entropy = CalibrationSpec(method=Method.ENTROPY)
    with pytest.raises(CalibrationError, match="Entropy"):
        quantise_onnx.quantise(fp32, workload, case_of(TRT, Precision.FP8), tmp_path, entropy)


def test_a_model_with_other_inputs_is_refused(workload, tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, 4]) for name in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    path = tmp_path / "two_inputs.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", value[:2], value[2:])), path)
    with pytest.raises(CalibrationError, match=r"takes 2 inputs \(a, b\) and there are 1"):
        quantise_onnx.quantise(path, workload, case_of(ORT, Precision.INT8), tmp_path, SPEC)


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_a_scale_that_loses_every_value_is_refused(scale):
    tensors = [
        helper.make_tensor("scale", TensorProto.FLOAT16, [], [scale]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["d", "d"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [4, 4]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors))
    with pytest.raises(CalibrationError, match="scale of tensor 'x'"):
        quantisation_report.of_graph(
            model,
            precision="int8",
            high_precision="fp16",
            placement="tensorrt",
            calibration={},
            tool="test",
            warnings=(),
            operators=("MatMul",),
        )
