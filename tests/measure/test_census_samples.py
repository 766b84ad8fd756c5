"""The census of real engines, checked by hand against what the engines printed."""

import json
from collections import Counter

import pytest
from engine_samples import inspected, logged, text

from trtgate.errors import InspectionError
from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import Census, Datatype, Role, datatype_of
from trtgate.measure.compute_share import facts, multiplying, shares
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


@pytest.mark.parametrize(
    ("name", "layers", "kinds", "datatypes", "sources"),
    # Counted in the logs by regular expressions for 'LayerType: ', 'atatype: ' and '[ONNX Layer: '.
    [
        (
            "mobilenet_v3_small_fp16_rtx_1.4",
            84,
            {"correlation": 43, "kgen": 30, "runtime_fusion": 10, "gemm": 1},
            {"fp16": 192},
            121,
        ),
        (
            "transformer_fp16_rtx_1.6",
            17,
            {"kgen": 9, "runtime_fusion": 4, "gemm": 4},
            {"fp16": 71, "fp32": 12},
            63,
        ),
        (
            "vit_b_16_fp16_rtx_1.6",
            137,
            {"kgen": 87, "runtime_fusion": 35, "gemm": 14, "correlation": 1},
            {"fp16": 496, "fp32": 82},
            392,
        ),
    ],
)
def test_logs_of_ahead_of_time_engines(name, layers, kinds, datatypes, sources):
    census = logged(name)
    assert len(census.layers) == layers
    assert Counter(layer.kind for layer in census.layers) == kinds
    seen = [use.datatype for layer in census.layers for use in (*layer.inputs, *layer.outputs, *layer.constants)]
    assert Counter(map(str, seen)) == datatypes
    assert len({name for layer in census.layers for name in layer.sources}) == sources
    assert {name for layer in census.layers for name in layer.sources} <= {node.name for node in census.sources}
    assert shares(census) == {Datatype.FP16: 1.0}


def test_attention_of_the_recorded_transformer_is_one_kernel():
    census = logged("transformer_fp16_rtx_1.6")
    block = [layer for layer in census.layers if "_gemm_mha" in layer.name]
    # By hand, from the log: scores, softmax and weighted values, and nothing else.
    assert [layer.sources for layer in block] == [
        ("node_scaled_dot_product_attention", "node_Softmax_74", "node_MatMul_73"),
        ("node_scaled_dot_product_attention_1", "node_Softmax_156", "node_MatMul_155"),
    ]
    assert {layer.role for layer in block} == {Role.COMPUTE}


def test_flops_of_the_recorded_models():
    # 2 x multiply-accumulates; torchvision publishes 17.56 G for vit_b_16 and 0.06 G for mobilenet_v3_small at batch 1.
    vit, mobilenet = (
        facts(logged(name))["flops"] for name in ("vit_b_16_fp16_rtx_1.6", "mobilenet_v3_small_fp16_rtx_1.4")
    )
    assert vit / 2 / 2 / 1e9 == pytest.approx(17.56, rel=0.005)
    assert mobilenet / 2 / 2 / 1e9 == pytest.approx(0.06, abs=0.005)


@pytest.mark.parametrize("name", ["tensorrt_10_documented.json", "tensorrt_11_style.json"])
def test_classic_tensorrt_key_styles(name):
    (layer,) = inspected(name).layers
    assert layer.role is Role.COMPUTE
    assert layer.sources == tuple(f"node_of_gpu_0/res4_0_branch2a_{part}" for part in ("1", "bn_1", "bn_2"))
    assert layer.inputs[0].shape == (16, 512, 28, 28)
    assert layer.inputs[0].datatype is Datatype.INT8
    assert layer.outputs[0].datatype is Datatype.INT8
    assert layer.inputs[0].layout.startswith("Thirty-two wide channel")
    assert layer.tactic is not None
    assert layer.tactic.startswith("sm80_xmma_fprop")


def test_float_weights_behind_an_int8_input_are_not_int8_arithmetic():
    data = json.loads(text("tensorrt_10_documented.json"))
    assert facts(parse_inspector_json(json.dumps(data)))["compute_layers"] == {"int8": 1}
    data["Layers"][0]["Weights"]["Type"] = "Float"
    assert facts(parse_inspector_json(json.dumps(data)))["compute_layers"] == {"fp32": 1}


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


def test_a_product_of_a_matrix_and_a_vector_is_told_by_its_operations_and_its_constant():
    """simple_cnn in bf16 at batch 1, TensorRT-RTX 1.6.1.120: its linear layers are kernels of no gemm's name."""
    weights = "{ Name: fc1.weight, Dimensions: [320,50], Strides: [50,1], StrideOrder: [1,0], Datatype: BFloat16 }"
    bias = "{ Name: fc1.bias, Dimensions: [1,50], Strides: [50,1], StrideOrder: [1,0], Datatype: BFloat16 }"

    def role(name, *constants):
        use = "[ { Name: x, Dimensions: [1,320], Strides: [320,1], StrideOrder: [1,0], Datatype: Float }]"
        held = f"[ {', '.join(constants)}]" if constants else "[]"
        line = (
            f"Name: {name}, LayerType: kgen, Inputs: {use}, Constants: {held}, Outputs: {use}, StreamId: 0, Metadata: "
        )
        (layer,) = parse_build_log(["Layers:", line]).layers
        return layer.role, [str(kind) for _, kind in multiplying(Census(origin="build_log", layers=(layer,)))]

    assert role("__myl_CastReluReshMoveMulSumAddRelu_myl0_6", bias, weights) == (Role.COMPUTE, ["fp32"])
    assert role("__myl_MulCastSum_myl0_6", weights) == (Role.COMPUTE, ["fp32"])
    assert role("__myl_CastReluReshMoveMulSumAddRelu_myl0_6", bias) == (Role.POINTWISE, [])
    assert role("__myl_ReshMulSum_myl0_7") == (Role.POINTWISE, [])  # a norm of its input, say
    # A softmax with a scale before it and a mask beside it.
    assert role("__myl_MulMaxrSubExpSumDivMul_myl0_2", weights) == (Role.POINTWISE, [])


def test_names_with_commas_and_brackets_survive_the_log():
    line = (
        "Name: {ForeignNode[a, b...c]}, LayerType: Myelin, Inputs: [ { Name: x, y[0], Dimensions: [2,3], "
        "Format/Datatype: Half }, { Name: s, Dimensions: [], Format/Datatype: Float }], Outputs: [], "
        "TacticName: , StreamId: 1, Metadata: [ONNX Layer: a, b]\x1e[ONNX Layer: c]"
    )
    (layer,) = parse_build_log([f"[VERBOSE] Layers:\n{line}\n\nBindings:\nx"]).layers
    assert layer.name == "{ForeignNode[a, b...c]}"
    assert [(use.name, use.shape) for use in layer.inputs] == [("x, y[0]", (2, 3)), ("s", ())]
    assert layer.sources == ("a, b", "c")
    assert layer.stream == 1


def test_jumps_of_control_flow_are_read_and_are_no_kernels():
    """Recorded from TensorRT-RTX 1.6.1.120: an If, and the jump back of a Loop; shortened."""
    use = "[ { Name: x, Dimensions: [4,16], Strides: [16,1], StrideOrder: [1,0], Datatype: Float, Format: (Linear) }]"

    def line(name, kind, inputs, outputs, tail):
        uses = f"Inputs: {inputs}, Constants: [], Outputs: {outputs}"
        return f"Name: {name}, LayerType: {kind}, {uses}, TacticName: , StreamId: {tail}"

    then = "JumpTargetThen: __myl_FcTanh_myl0_4, JumpTargetElse: __myl_FcRelu_myl0_6"
    loop = "JumpTargetThen: $$myelin$$(Unnamed Loop* 0)^a, b_myl0_5, JumpTargetElse: <EXIT>"
    nodes = "[ONNX Layer: if]\x1f[ONNX Layer: product | then (then_branch) | if (If)]"
    lines = [
        line("__mye41cbr_myl0_3", "cjmp", use, "[]", f"0, {then}, Metadata: [ONNX Layer: if]"),
        line("__myl_FcTanh_myl0_4", "runtime_fusion", use, use, f"0, Metadata: {nodes}"),
        line("jmp__mye47_myl0_5", "jmp", "[]", "[]", "0, JumpTarget: <EXIT>, Metadata: [ONNX Layer: if]"),
        line("cbr___mye93_myl0_8", "cjmp", use, "[]", f"0, {loop}, Metadata: "),
        line("__mye306_hc_init_myl0_0", "memset", "[]", use, "1, Metadata: "),
    ]
    census = parse_build_log(["Layers:", *lines])
    assert [layer.role for layer in census.layers] == [
        Role.SYNCHRONISATION,
        Role.COMPUTE,
        Role.SYNCHRONISATION,
        Role.SYNCHRONISATION,
        Role.MOVEMENT,
    ]
    assert census.kernels == 2
    assert census.layers[1].sources == ("if", "product | then (then_branch) | if (If)")
    assert (census.layers[3].sources, census.layers[4].stream) == ((), 1)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (["Engine Layer Information:\nLayer(Myelin): {ForeignNode[a...b]}, Tactic: 0x0"], "DETAILED"),
        (["[INFO] Engine generation completed in 0.1 seconds."], "VERBOSE"),
        (["Layers:\nName: a, LayerType: kgen, Inputs: [], Outputs: [], StreamId: 0, Metadata: \n"] * 2, "2 engines"),
        (["Layers:\nName: a, something new"], "something new"),
    ],
)
def test_logs_that_do_not_tell_enough_are_refused(log, words):
    with pytest.raises(InspectionError, match=words):
        parse_build_log(log)


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
