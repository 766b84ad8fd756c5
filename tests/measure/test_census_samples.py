"""The census of real engines, checked by hand against what the engines printed."""

import json
import re
from collections import Counter

import pytest
from engine_samples import inspected, logged, text

from trtgate.errors import InspectionError
from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import Census, Datatype, Role, datatype_of
from trtgate.measure.compute_share import facts, multiplying, shares
from trtgate.measure.difference import Change, difference
from trtgate.measure.inspector_json import parse_inspector_json
from trtgate.measure.layer_kinds import operations_of


def test_fp8_resnet18_from_an_h100():
    # By hand, from r18fp8_layers.json: 53 layers, of which 6 signals and 6 waits, counted with grep.
    census = inspected("r18fp8_layers.json")
    assert len(census.layers) == 53
    kinds = Counter(layer.kind for layer in census.layers)
    assert kinds == {"correlation": 20, "kgen": 19, "signal": 6, "wait": 6, "maxpool": 1, "gemm": 1}
    assert census.kernels == 41

    first, second = census.covering("node_Conv_292")
    assert (first.name, first.role) == ("__myl_CastConc_myl0_0", Role.MOVEMENT)
    assert first.is_cast
    assert [use.datatype for use in (*first.inputs, *first.outputs)] == [Datatype.FP32, Datatype.FP16]
    assert second.inputs[0].shape == (8, 4, 224, 224)
    assert second.outputs[0].shape == (8, 64, 112, 112)
    assert second.tactic is None  # __myelin_CASK_STUB

    convolutions = [layer for layer in census.layers if layer.kind == "correlation"]
    read = Counter(str(layer.inputs[0].datatype) for layer in convolutions)
    written = Counter(str(layer.outputs[0].datatype) for layer in convolutions)
    assert read == {"fp8": 19, "fp16": 1}
    assert written == {"fp32": 19, "fp16": 1}
    assert convolutions[1].sources == (
        "node_Conv_295",
        "max_pool2d_DequantizeLinear",
        "layer1.0.conv1.weight_DequantizeLinear",
        "layer1.0.conv1.weight_QuantizeLinear",
    )
    fused = census.covering("node_relu_1")
    assert [layer.operations for layer in fused] == [("Mul", "Cast", "Relu", "Mul", "Cast")]


def test_small_fp16_network_from_an_h100():
    # By hand, from conv_bn_relu_fp16.json.
    census = inspected("conv_bn_relu_fp16.json")
    assert [layer.kind for layer in census.layers] == [
        "kgen",
        "correlation",
        "correlation",
        "kgen",
        "kgen",
        "runtime_fusion",
    ]
    assert census.layers[2].sources == ("node_conv2d_1", "node_relu_1")
    assert census.layers[3].is_reformat
    assert census.layers[3].sources == ()
    assert census.layers[4].operations == ("Mean",)
    assert census.layers[4].tactic == "__myl_Mean_0x41b33763af5351ff198678779264446a"
    assert census.layers[5].tactic is None  # an empty name
    assert {use.datatype for layer in census.layers for use in (*layer.inputs, *layer.outputs)} == {Datatype.FP16}


# Counted by hand in the logs, and again below by regular expressions that know nothing of the reader.
ZOO = {
    "mobilenet_v3_small_fp16_rtx_1.4": {
        "kinds": {"correlation": 43, "kgen": 30, "runtime_fusion": 10, "gemm": 1},
        "datatypes": {"Half": 192},
        "nodes": 121,
    },
    "transformer_fp16_rtx_1.6": {
        "kinds": {"kgen": 74, "gemm": 36, "runtime_fusion": 13},
        "datatypes": {"Half": 466, "Float": 76, "Int64": 1},
        "nodes": 331,
    },
    "vit_b_16_fp16_rtx_1.6": {
        "kinds": {"kgen": 87, "runtime_fusion": 35, "gemm": 14, "correlation": 1},
        "datatypes": {"Half": 496, "Float": 82},
        "nodes": 392,
    },
}
PRINTED = {"fp16": "Half", "fp32": "Float", "int64": "Int64"}


@pytest.mark.parametrize("name", ZOO)
def test_logs_of_ahead_of_time_engines(name):
    raw, counted = text(f"{name}.log.gz"), ZOO[name]
    assert Counter(re.findall(r", LayerType: (\w+),", raw)) == counted["kinds"]
    assert Counter(re.findall(r"(?:, |/)Datatype: (\w+)", raw)) == counted["datatypes"]
    assert len(set(re.findall(r"\[ONNX Layer: ([^\]]+)\]", raw))) == counted["nodes"]

    census = logged(name)
    assert Counter(layer.kind for layer in census.layers) == counted["kinds"]
    seen = [use.datatype for layer in census.layers for use in (*layer.inputs, *layer.outputs, *layer.constants)]
    assert Counter(PRINTED[str(kind)] for kind in seen) == counted["datatypes"]
    assert len({node for layer in census.layers for node in layer.sources}) == counted["nodes"]
    assert {node for layer in census.layers for node in layer.sources} <= {node.name for node in census.sources}
    assert shares(census) == {Datatype.FP16: 1.0}


def test_the_zoos_transformer_multiplies_in_61_layers_of_which_12_are_its_attentions():
    """Twelve encoder layers of width 768 on 128 tokens."""
    lines = [line for line in text("transformer_fp16_rtx_1.6.log.gz").split("\n") if line.startswith("Name: ")]
    assert len(lines) == 123
    attentions = [line for line in lines if line.startswith("Name: _gemm_mha_")]
    products = [line for line in lines if re.match(r"Name: (_gemm_mha_|__myl_Fc|[^,]*, LayerType: gemm,)", line)]
    assert (len(attentions), len(products)) == (12, 61)
    assert all(re.search(r"Inputs: \[ \{ Name: [^{]*Datatype: Half,", line) for line in products)

    census = logged("transformer_fp16_rtx_1.6")
    names = [re.match(r"Name: ([^,]*),", line)[1] for line in products]
    assert [layer.name for layer, _ in multiplying(census)] == names
    assert facts(census)["compute_layers"] == {"fp16": 61}
    # Scores, softmax and weighted values, and nothing else.
    fused = [layer.sources for layer in census.layers if layer.name.startswith("_gemm_mha")]
    assert [re.findall(r"\[ONNX Layer: ([^\]]+)\]", line) for line in attentions] == [list(one) for one in fused]
    assert [sorted(re.sub(r"(_\d+)?$", "", node) for node in one) for one in fused] == [
        ["node_MatMul", "node_Softmax", "node_scaled_dot_product_attention"]
    ] * 12
    # The three projections of the input are one layer in each of the twelve.
    assert sum(line.split(",")[0].count("+") == 2 for line in lines) == 12


def test_flops_of_the_recorded_models():
    # 2 x multiply-accumulates; torchvision publishes 17.56 G for vit_b_16 and 0.06 G for mobilenet_v3_small at batch 1.
    mobilenet, transformer, vit = (facts(logged(name))["flops"] for name in sorted(ZOO))
    assert vit / 2 / 2 / 1e9 == pytest.approx(17.56, rel=0.005)
    assert mobilenet / 2 / 2 / 1e9 == pytest.approx(0.06, abs=0.005)
    # By token four projections and two layers of four times the width; the two products of attention; the pooled head.
    width, tokens = 768, 128
    layer = 2 * tokens * (4 + 2 * 4) * width**2 + 2 * 2 * tokens**2 * width
    assert transformer == 12 * layer + 2 * width**2 == 22_348_431_360


STYLES = ["tensorrt_10_style.json", "tensorrt_11_style.json"]


@pytest.mark.parametrize("name", STYLES)
def test_classic_tensorrt_key_styles(name):
    """One made-up engine in the keys of two releases; what it holds was written down before what reads it."""
    census = inspected(name)
    assert [layer.role for layer in census.layers] == [
        Role.MOVEMENT,  # the input, made half precision and another layout
        Role.COMPUTE,
        Role.SYNCHRONISATION,  # a layout that is only called otherwise
        Role.COMPUTE,
        Role.COMPUTE,
        Role.POINTWISE,
        Role.POINTWISE,
        Role.SYNCHRONISATION,
        Role.COMPUTE,
    ]
    told = facts(census)
    assert told["kernels"] == 7
    assert told["compute_layers"] == {"fp16": 3, "int8": 1}
    assert told["casts"] == ["Reformatting CopyNode for Input Tensor 0 to stem + stem_relu"]

    entry, stem, _, block, narrow, gate, *_, classify = census.layers
    assert [use.datatype for use in (*entry.inputs, *entry.outputs)] == [Datatype.FP32, Datatype.FP16]
    assert stem.sources == ("stem", "stem_relu")
    assert block.sources == ("block", "block_add", "block_relu")  # without metadata: of its name
    assert gate.sources == ("gate_sigmoid", "gate")
    assert (classify.inputs[1].shape, classify.tactic) == ((64, 10), "sm80_some_half_gemm")
    assert [use.shape for use in block.inputs] == [(4, 64, 32, 32)] * 2
    assert narrow.inputs[0].datatype is narrow.outputs[0].datatype is Datatype.INT8
    assert narrow.inputs[0].layout.startswith("Thirty-two wide channel vectorized row major")


def test_the_two_key_styles_tell_the_same_engine():
    ten, eleven = (inspected(name) for name in STYLES)
    assert [row.change for row in difference(ten, eleven)] == [Change.SAME] * 7
    assert '"Format/Datatype"' not in text(STYLES[1])
    assert all(f'"{key}"' in text(STYLES[1]) for key in ("Datatype", "DataType", "Format", "I/O Tensors"))


@pytest.mark.parametrize("name", STYLES)
def test_float_weights_behind_an_int8_input_are_not_int8_arithmetic(name):
    data = json.loads(text(name))
    (narrow,) = (layer for layer in data["Layers"] if layer["Name"].startswith("narrow"))
    narrow["Weights"]["Type"] = "Float"
    assert facts(parse_inspector_json(json.dumps(data)))["compute_layers"] == {"fp16": 3, "fp32": 1}


@pytest.mark.parametrize(
    ("printed", "datatype"),
    [
        ("Half", Datatype.FP16),
        ("Float", Datatype.FP32),
        ("BFloat16", Datatype.BF16),
        ("FP8", Datatype.FP8),
        ("FLOAT8E4M3FN", Datatype.FP8),
        ("Float4E2M1", Datatype.FP4),
        ("Row major linear FP16 format (kLINEAR)", Datatype.FP16),
        ("Row major linear FP32", Datatype.FP32),
        ("Row major Int8 format", Datatype.INT8),
        ("UInt8", Datatype.UINT8),
        ("Int64", Datatype.INT64),
        ("Int32", Datatype.INT32),
        ("Bool", Datatype.BOOL),
        ("N/A due to dynamic shapes", Datatype.UNKNOWN),
    ],
)
def test_datatype_spellings(printed, datatype):
    assert datatype_of(printed) is datatype
    assert datatype_of(printed.upper()) is datatype


def test_names_of_generated_kernels_spell_their_operations():
    assert operations_of("__myl_FcAddDivCastErfCastAddMulMul_myl0_11")[:3] == ("Fc", "Add", "Div")
    assert operations_of("node_Conv_292_myl0_1") == ()
    assert operations_of("_gemm_mha_v2_myl0_4") == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"Layers": ["conv1 + relu1", "fc"], "Bindings": ["x"]}', "LAYER_NAMES_ONLY.*DETAILED"),
        ('{"Layers": []}', "no layers.*DETAILED"),
        ("[]", "no layers"),
        ('{"Layers": [{"LayerType": "kgen"}]}', "without a name"),
        ('{"Layers": [{"Name": "a"}]}', "neither type nor tensors"),
        ("Layers:", "not JSON"),
    ],
)
def test_inspector_output_that_does_not_tell_enough_is_refused(content, words):
    with pytest.raises(InspectionError, match=words):
        parse_inspector_json(content)


def test_a_census_survives_the_disk(tmp_path):
    census = logged("transformer_fp16_rtx_1.6")
    census.save(tmp_path / "a.census.json")
    assert Census.load(tmp_path / "a.census.json") == census


@pytest.mark.parametrize(
    "content", ["{", '{"schema_version": 4, "origin": "inspector", "layers": []}', '{"layers": 1}']
)
def test_a_damaged_or_newer_census_is_refused(tmp_path, content):
    path = tmp_path / "a.census.json"
    path.write_text(content)
    with pytest.raises(InspectionError, match=r"(damaged or of another release|not a census).*build"):
        Census.load(path)


def test_a_tail_behind_a_node_in_the_metadata_is_not_part_of_its_name():
    """Seen in resnet50 and efficientnet_b0, fp16, TensorRT-RTX 1.6: 1x1 convolutions that became products."""
    line = (
        "Name: __myl_FcAddRelu_myl0_26, LayerType: runtime_fusion, Inputs: [], Outputs: [], TacticName: , StreamId: 0, "
        "Metadata: [ONNX Layer: node_Conv_801]\x1f[ONNX Layer: node_relu_22]__gemm_from_conv1x1"
    )
    (layer,) = parse_build_log([f"Layers:\n{line}\n"]).layers
    assert layer.sources == ("node_Conv_801", "node_relu_22")
