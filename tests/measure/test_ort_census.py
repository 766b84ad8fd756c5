"""What ONNX Runtime makes of a graph, read from the graph that it writes."""

import onnxruntime
import pytest

from trtgate.case import Precision
from trtgate.errors import InspectionError
from trtgate.measure.compute_share import facts
from trtgate.measure.ort_census import census_from_onnxruntime
from trtgate.workloads import micro_models


@pytest.fixture
def census(tmp_path):
    def build(name, precision):
        path = micro_models.get(name).write(tmp_path, precision)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return census_from_onnxruntime(tmp_path / "optimised.onnx", path)

    return build


def test_convolutions_take_in_bias_residual_and_relu(census):
    layers = [set(layer.sources) for layer in census("conv_block", Precision.FP32).layers if "Conv" in layer.kind]
    assert layers == [{"conv_plain", "relu_plain"}, {"conv_residual", "add_residual", "relu_residual"}]


def test_half_precision_on_the_cpu_is_float32_arithmetic(census):
    """Why an fp16 row on the CPU is not faster: the provider has no kernels, and casts round each product."""
    told = facts(census("mlp", Precision.FP16))
    assert told["share"] == {"fp32": 1.0}
    assert told["casts"]
    assert facts(census("mlp", Precision.FP32))["casts"] == []


def test_every_source_node_belongs_to_one_layer(census):
    found = census("attention", Precision.FP32)
    claimed = [name for layer in found.layers for name in layer.sources]
    assert sorted(claimed) == sorted(node.name for node in found.sources)


def test_a_foreign_file_is_refused(tmp_path):
    path = micro_models.get("mlp").write(tmp_path, Precision.FP32)
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(InspectionError, match="not an ONNX model"):
        census_from_onnxruntime(tmp_path / "broken.onnx", path)
