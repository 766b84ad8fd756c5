"""What ONNX Runtime makes of a graph, read from the graph that it writes."""

import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from quantised_convnet import PRODUCTS, int8_convnet

from trtgate.case import Precision
from trtgate.errors import InspectionError
from trtgate.measure.compute_share import facts
from trtgate.measure.ort_census import census_from_onnxruntime
from trtgate.workloads import micro_models


@pytest.fixture
def census_of(tmp_path):
    def read(path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return census_from_onnxruntime(tmp_path / "optimised.onnx", path)

    return read


@pytest.fixture
def census(census_of, tmp_path):
    return lambda name, precision: census_of(micro_models.get(name).write(tmp_path, precision))


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


@pytest.mark.parametrize("activation", [TensorProto.UINT8, TensorProto.INT8])
def test_renamed_integer_kernels_keep_their_nodes(census_of, tmp_path, activation):
    """The layout pass renames each int8 convolution; what dequantises its output must not pass for the product."""
    onnx.save(int8_convnet(activation), tmp_path / "int8.onnx")
    found = census_of(tmp_path / "int8.onnx")
    told = facts(found)
    assert told["share"] == {"int8": 1.0}
    kinds = {layer.name: layer.kind.rpartition(".")[2] for layer in found.layers}
    assert told["casts"]
    assert {kinds[name] for name in told["casts"]} == {"QuantizeLinear", "DequantizeLinear"}
    assert [kinds[told["compute"][name]["layer"]] for name in PRODUCTS] == ["QLinearConv", "QLinearConv", "QGemm"]
    for name in PRODUCTS:
        (layer,) = (layer for layer in found.layers if layer.name == told["compute"][name]["layer"])
        assert {name, f"{name}_w_dequantise"} <= set(layer.sources)
        assert name != "conv_second" or "conv_second_out_quantise" in layer.sources


def test_quantising_layers_never_pass_for_products(census_of, tmp_path):
    """A product that only its dequantisation claims is unknown work, not float work."""
    onnx.save(int8_convnet(), tmp_path / "int8.onnx")
    found = census_of(tmp_path / "int8.onnx")
    taken = {layer.name: layer.sources for layer in found.layers if "QLinearConv" in layer.kind}
    layers = tuple(
        layer.model_copy(update={"sources": () if layer.name in taken else (*layer.sources, *PRODUCTS[:2])})
        for layer in found.layers
        if layer.name in taken or layer.is_quantisation or "QGemm" in layer.kind
    )
    rest = found.model_copy(update={"layers": layers})
    assert {entry["layer"] for entry in facts(rest)["compute"].values()} == {"classify"}
    rounding = tuple(layer for layer in layers if layer.is_quantisation)
    assert facts(found.model_copy(update={"layers": rounding}))["share"] == {"unknown": 1.0}


def test_a_foreign_file_is_refused(tmp_path):
    path = micro_models.get("mlp").write(tmp_path, Precision.FP32)
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(InspectionError, match="not an ONNX model"):
        census_from_onnxruntime(tmp_path / "broken.onnx", path)
