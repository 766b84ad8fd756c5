"""Lines of a builder's verbose log, whatever the layer is called and whatever it does."""

import pytest

from trtgate.errors import InspectionError
from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import Census, Role
from trtgate.measure.compute_share import multiplying
from trtgate.measure.layer_kinds import operations_of, role_of


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


@pytest.mark.parametrize(
    ("name", "operations", "role"),
    [
        ("__myl_TraMaxSubExpSum_myl0_1", ("Tran", "Max", "Sub", "Exp", "Sum"), Role.POINTWISE),
        ("__myl_TraResCas_myl0_1", ("Tran", "Resh", "Cast"), Role.MOVEMENT),
        ("__myl_ResTraMov_myl1_2", ("Resh", "Tran", "Move"), Role.MOVEMENT),
        ("__myl_FcAddRelCas_myl0_3", ("Fc", "Add", "Relu", "Cast"), Role.COMPUTE),
        ("__myl_CorAdd_myl0_3", ("Corr", "Add"), Role.COMPUTE),
        # What three letters leave open is left open: concatenation or convolution, exponential or expansion.
        ("__myl_ConExp_myl0_3", ("Con", "Exp"), Role.POINTWISE),
        ("__myl_ConcExpa_myl0_3", ("Conc", "Expa"), Role.MOVEMENT),
    ],
)
def test_operations_of_three_letters_are_read_as_those_of_four(name, operations, role):
    found = operations_of(name)
    assert (found, role_of("kgen", name, found)) == (operations, role)


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("Convert", Role.MOVEMENT),
        ("convert", Role.MOVEMENT),
        ("shape_call", Role.SYNCHRONISATION),
        ("CaskConvolution", Role.COMPUTE),
        ("CaskConvActPool", Role.COMPUTE),
    ],
)
def test_a_conversion_is_no_convolution(kind, role):
    assert role_of(kind, "a layer", ()) is role


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
