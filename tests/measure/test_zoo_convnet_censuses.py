"""The census of resnet18 and mobilenet_v3_small on an H100, checked by hand; see test_zoo_censuses."""

import re

import pytest
from zoo_engines import NODE, census_of, printed_layers, raw, uses

from trtgate.measure.census import Datatype
from trtgate.measure.compute_share import facts, multiplying

# Each convolution in execution order: its extent, and what else its kernel does.
RESNET18 = [
    ("node_Conv_291", 7, ["node_relu"]),
    ("node_Conv_293", 3, ["node_relu_1"]),
    ("node_Conv_295", 3, ["node_relu_2", "node_add"]),
    ("node_Conv_297", 3, ["node_relu_3"]),
    ("node_Conv_299", 3, ["node_relu_4", "node_add_1"]),
    ("node_Conv_301", 3, ["node_relu_5"]),
    ("node_Conv_303", 3, []),
    ("node_Conv_305", 1, ["node_relu_6", "node_add_2"]),
    ("node_Conv_307", 3, ["node_relu_7"]),
    ("node_Conv_309", 3, ["node_relu_8", "node_add_3"]),
    ("node_Conv_311", 3, ["node_relu_9"]),
    ("node_Conv_313", 3, []),
    ("node_Conv_315", 1, ["node_relu_10", "node_add_4"]),
    ("node_Conv_317", 3, ["node_relu_11"]),
    ("node_Conv_319", 3, ["node_relu_12", "node_add_5"]),
    ("node_Conv_321", 3, ["node_relu_13"]),
    ("node_Conv_323", 3, []),
    ("node_Conv_325", 1, ["node_relu_14", "node_add_6"]),
    ("node_Conv_327", 3, ["node_relu_15"]),
    ("node_Conv_329", 3, ["node_relu_16", "node_add_7"]),
]


def test_resnet18_adds_and_rectifies_inside_its_convolutions():
    """Where a block changes its width, the 1x1 convolution of the shortcut runs last and adds, not the block's own."""
    layers = {layer.name: layer for layer in census_of("resnet18").layers}
    for convolution, _, others in RESNET18:
        items = "\\u001f".join(f"[ONNX Layer: {node}]" for node in (convolution, *others))
        assert f'"Metadata": "{items}"' in raw("resnet18")
        (layer,) = (one for one in layers.values() if one.name.startswith(f"{convolution}_"))
        assert layer.sources == (convolution, *others)
        assert len(layer.inputs) == (2 if len(others) == 2 else 1)
    shortcut = layers["node_Conv_305_myl0_9"]
    assert [use.name for use in shortcut.inputs] == ["relu_5.1_8_myl0", "relu_6.1_10_myl0"]
    assert [use.shape for use in uses(shortcut)] == [(1, 64, 56, 56), (1, 128, 28, 28), (1, 128, 28, 28)]
    # A copy to another layout, which no node asked for, between the last convolution and the mean.
    assert layers["__myl_Tran_myl0_22"].sources == ()
    assert layers["__myl_Mean_myl0_23"].sources == ("node_mean",)


def test_resnet18s_work_by_layer_is_what_the_printed_shapes_and_its_kernels_make():
    layers = {re.sub(r"_myl0_\d+$", "", layer["Name"]): layer for layer in printed_layers("resnet18")}
    work = {"node_linear": 2 * 512 * 1000}
    for convolution, extent, _ in RESNET18:
        read, written = (layers[convolution][side][0]["Dimensions"] for side in ("Inputs", "Outputs"))
        channels = 3 if convolution == "node_Conv_291" else read[1]  # the fourth is padding
        work[convolution] = 2 * extent**2 * channels * written[1] * written[2] * written[3]
    told = facts(census_of("resnet18"))
    assert told["flops"] == sum(work.values()) == 3_628_146_688
    assert {node: one["work"] for node, one in told["compute"].items()} == {
        node: pytest.approx(flops / told["flops"], abs=1e-6) for node, flops in work.items()
    }
    names = [layer["Name"] for layer in printed_layers("resnet18")]
    assert {one["layer"] for one in told["compute"].values()} == {*names[1:2], *names[3:22], "__myl_FcAdd_myl0_24"}
    assert told["share"] == {"fp16": 1.0}


def test_nine_of_mobilenets_nineteen_hard_swishes_are_kernels_of_their_own():
    printed = printed_layers("mobilenet_v3_small")
    swishes = {layer["Name"]: layer for layer in printed if re.search(r"Layer: n0(_\d+)?\]", layer["Metadata"])}
    alone = [f"__myl_MulAddMinMaxMulTran_myl0_{position}" for position in (17, 25, 33, 41, 49, 57, 65, 73, 80)]
    fused = [f"__myl_CorrMulAddMinMaxMul_myl0_{position}" for position in (1, 15, 23, 31, 39, 47, 55, 63, 71)]
    assert sorted(swishes) == sorted([*alone, *fused, "__myl_FcAddMulAddMinMaxMul_myl0_82"])

    census = census_of("mobilenet_v3_small")
    products = {layer.name for layer, datatype in multiplying(census) if datatype is Datatype.FP16}
    assert {layer.name: layer.name in products for layer in census.layers if layer.name in swishes} == {
        name: name not in alone for name in swishes
    }
    (first,) = census.covering("n0")
    assert first.sources == ("node_Conv_505", "n0")
    (second,) = census.covering("n0_3")
    assert second.operations == ("Mul", "Add", "Min", "Max", "Mul", "Tran")
    assert second.sources == ("n0_3",)
    # Each of the fourteen Relus, and each of the six sums, is in the kernel of a convolution.
    simple = [node.name for node in census.sources if node.op in ("Relu", "Add")]
    assert len(simple) == 14 + 6
    assert {layer.kind for node in simple for layer in census.covering(node)} == {"correlation"}


def test_the_work_of_mobilenets_gates_belongs_to_their_convolutions():
    """The kernel that applies a gate names the convolution before it too, though it only multiplies point by point."""
    convolutions = [f"node_conv2d_{number}" for number in (3, 14, 19, 24, 29, 34, 39, 44, 49)]
    pairs = [re.findall(NODE, layer["Metadata"]) for layer in printed_layers("mobilenet_v3_small")]
    gates = [nodes for nodes in pairs if nodes and nodes[0].startswith("node_hardsigmoid")]
    assert [nodes[1] for nodes in gates] == convolutions

    census = census_of("mobilenet_v3_small")
    told = facts(census)["compute"]
    for convolution in convolutions:
        product, gate = census.covering(convolution)
        assert (product.kind, gate.kind) == ("correlation", "kgen")
        assert gate.operations[:5] == ("Mul", "Add", "Min", "Max", "Mul")
        assert told[convolution]["layer"] == product.name


def test_mobilenets_work_is_what_its_published_blocks_make():
    """Blocks: channels read, extent of the depthwise kernel, channels inside, written and squeezed, rows written."""
    blocks = [(16, 3, 16, 16, 8, 56), (16, 3, 72, 24, 0, 28), (24, 3, 88, 24, 0, 28), (24, 5, 96, 40, 24, 14)]
    blocks += [(40, 5, 240, 40, 64, 14)] * 2 + [(40, 5, 120, 48, 32, 14), (48, 5, 144, 48, 40, 14)]
    blocks += [(48, 5, 288, 96, 72, 7)] + [(96, 5, 576, 96, 144, 7)] * 2
    products, rows = [112**2 * 16 * 3 * 9, 49 * 96 * 576, 576 * 1024, 1024 * 1000], 112
    for read, extent, inside, written, squeezed, after in blocks:
        products += [rows**2 * read * inside] if inside != read else []
        products += [after**2 * inside * extent**2, after**2 * inside * written]
        products += [inside * squeezed] * 2 if squeezed else []
        rows = after
    told = facts(census_of("mobilenet_v3_small"))
    assert told["compute_layers"] == {"fp16": len(products)} == {"fp16": 54}
    assert told["flops"] == 2 * sum(products) == 113_020_800
    assert told["share"] == {"fp16": 1.0}
