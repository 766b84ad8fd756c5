"""The census of four zoo models on an H100, checked by hand against what the engine inspector printed of them.

Numbers and names below were read off the recorded files by eye. Each is asserted of the file first, by regular
expressions or plain JSON that know nothing of the reader, and then of the census.
"""

import json
import re
from collections import Counter

import pytest
from engine_samples import with_sources
from zoo_engines import FILES, NODE, census_of, printed_layers, raw, uses

from trtgate.measure.census import Datatype
from trtgate.measure.compute_share import constants_of, facts, multiplying, shares
from trtgate.measure.inspector_json import parse_inspector_json

# tactics: hidden by a stub, empty, told, and how many different ones are told.
COUNTED = {
    "resnet18": {
        "kinds": {"correlation": 20, "kgen": 3, "maxpool": 1, "runtime_fusion": 1},
        "datatypes": {"Half": 58},
        "nodes": 48,
        "tactics": (21, 1, 3, 3),
        "moving": ["__myl_MoveConc_myl0_0", "__myl_Tran_myl0_22"],
        "changing": [],
    },
    "mobilenet_v3_small": {
        "kinds": {"correlation": 43, "kgen": 30, "runtime_fusion": 11},
        "datatypes": {"Half": 192},
        "nodes": 121,
        "tactics": (43, 11, 30, 22),
        "moving": ["__myl_MoveConc_myl0_0", "__myl_Tran_myl0_3"],
        "changing": [],
    },
    "vit_b_16": {
        "kinds": {"correlation": 1, "gemm": 12, "kgen": 51, "runtime_fusion": 37},
        "datatypes": {"Half": 285, "Float": 4},
        "nodes": 307,
        "tactics": (13, 37, 51, 9),
        # The other eleven that split a projection in three also add its bias, and so compute.
        "moving": ["__myl_MoveConc_myl0_0", "__myl_ReshTranReshSlicSlicSlic_myl0_4"],
        "changing": [98, 99],
    },
    "transformer": {
        "kinds": {"gemm": 36, "kgen": 74, "runtime_fusion": 13},
        "datatypes": {"Half": 292, "Float": 4, "Int64": 1},
        "nodes": 355,
        "tactics": (36, 13, 74, 7),
        "moving": [],
        "changing": [0, 120, 121],
    },
}
PRINTED = {"fp16": "Half", "fp32": "Float", "int64": "Int64"}


@pytest.mark.parametrize("name", COUNTED)
def test_a_census_counts_what_the_file_counts(name):
    printed, counted = raw(name), COUNTED[name]
    layers = sum(counted["kinds"].values())
    tactics = re.findall(r'"TacticName": "(.*)"', printed)
    told = [tactic for tactic in tactics if tactic not in ("", "__myelin_CASK_STUB")]
    assert printed.count('"Name": "') - sum(counted["datatypes"].values()) == layers  # layers and tensors have names
    assert Counter(re.findall(r'"LayerType": "(\w+)"', printed)) == counted["kinds"]
    assert Counter(re.findall(r'"Format/Datatype": "(\w+)"', printed)) == counted["datatypes"]
    assert len(set(re.findall(NODE, printed))) == counted["nodes"]
    assert (tactics.count("__myelin_CASK_STUB"), tactics.count(""), len(told), len(set(told))) == counted["tactics"]

    census = census_of(name)
    assert len(census.layers) == census.kernels == layers  # not one signal or wait
    assert Counter(layer.kind for layer in census.layers) == counted["kinds"]
    seen = Counter(PRINTED[use.datatype] for layer in census.layers for use in uses(layer))
    assert seen == counted["datatypes"]
    nodes = {node for layer in census.layers for node in layer.sources}
    assert len(nodes) == counted["nodes"]
    assert nodes <= {node.name for node in census.sources}
    assert [layer.tactic for layer in census.layers if layer.tactic is not None] == told


@pytest.mark.parametrize("name", COUNTED)
def test_every_tensor_and_node_of_every_layer_is_in_the_census(name):
    for printed, layer in zip(printed_layers(name), census_of(name).layers, strict=True):
        assert (layer.name, layer.kind) == (printed["Name"], printed["LayerType"])
        assert list(layer.sources) == re.findall(NODE, printed["Metadata"])
        tensors = [*printed["Inputs"], *printed["Outputs"]]
        assert [(use.name, list(use.shape), PRINTED[use.datatype]) for use in uses(layer)] == [
            (tensor["Name"], tensor["Dimensions"], tensor["Format/Datatype"]) for tensor in tensors
        ]


@pytest.mark.parametrize("name", COUNTED)
def test_layers_that_only_move_data_keep_its_type(name):
    printed = {layer["Name"]: layer for layer in printed_layers(name)}
    # Those that read other types than they write: each also adds, so that none is a mere cast.
    changing = [
        one
        for one, layer in printed.items()
        if {tensor["Format/Datatype"] for tensor in layer["Inputs"]}
        != {tensor["Format/Datatype"] for tensor in layer["Outputs"]}
    ]
    assert [int(one.rpartition("_")[2]) for one in changing] == COUNTED[name]["changing"]
    assert all("Add" in one for one in changing)
    told = facts(census_of(name))
    assert (told["reformats"], told["casts"]) == (COUNTED[name]["moving"], [])
    if name != "transformer":  # which reads tokens: images get a fourth channel first
        padding = printed["__myl_MoveConc_myl0_0"]
        assert (padding["Inputs"][0]["Name"], padding["Inputs"][0]["Dimensions"]) == ("image", [1, 3, 224, 224])
        assert padding["Outputs"][0]["Dimensions"] == [1, 4, 224, 224]


def test_an_encoder_layer_of_vit_is_eight_kernels_of_which_five_multiply():
    by_eye = [
        ("__myl_ReshCastMeanSubMulMeanAddSqrtDivMulCastMulAdd_myl0_10", "layer_norm_2"),
        ("node_MatMul_99_myl0_11", "MatMul_99"),
        (
            "__myl_AddReshTranReshSlicSlicSlic_myl0_12",
            "linear_4 unsqueeze_1 squeeze_1 transpose_7 select_5 select_4 select_3",
        ),
        ("_gemm_mha_v2_myl0_13", "scaled_dot_product_attention_1 Softmax_166 MatMul_165 Mul_161 Mul_164"),
        ("__myl_FcAdd_myl0_14", "linear_5"),
        (
            "__myl_ReshAddReshCastMeanSubMulMeanAddSqrtDivMulCastMulAdd_myl0_15",
            "view_18 transpose_11 add_3 layer_norm_3",
        ),
        ("__myl_FcAddDivCastErfCastAddMulMul_myl0_16", "gelu_1 linear_6 MatMul_177"),
        ("__myl_FcAddAdd_myl0_17", "MatMul_179 linear_7 add_4"),
    ]
    census = census_of("vit_b_16")
    told = {layer.name: " ".join(node.removeprefix("node_") for node in layer.sources) for layer in census.layers}
    assert list(told.items())[10:18] == by_eye
    products = {node: one["layer"] for node, one in facts(census)["compute"].items() if one["layer"] in dict(by_eye)}
    assert products == {
        "node_MatMul_99": "node_MatMul_99_myl0_11",
        "node_MatMul_165": "_gemm_mha_v2_myl0_13",
        "node_scaled_dot_product_attention_1": "_gemm_mha_v2_myl0_13",
        "node_linear_5": "__myl_FcAdd_myl0_14",
        "node_MatMul_177": "__myl_FcAddDivCastErfCastAddMulMul_myl0_16",
        "node_MatMul_179": "__myl_FcAddAdd_myl0_17",
    }


# Tokens, attentions, layers that multiply, and floating-point operations beside the twelve encoder layers'.
ATTENTIVE = [("vit_b_16", 197, 62, 2 * 196 * 768 * 3 * 16**2 + 2 * 768 * 1000), ("transformer", 128, 61, 2 * 768**2)]


@pytest.mark.parametrize(("name", "tokens", "layers", "beside"), ATTENTIVE)
def test_each_of_twelve_attentions_is_one_kernel(name, tokens, layers, beside):
    printed = printed_layers(name)
    attentions = [layer for layer in printed if layer["Name"].startswith("_gemm_mha_v2")]
    assert len(attentions) == 12
    assert len({layer["TacticName"] for layer in attentions}) == 1
    products = [
        layer["Name"]
        for layer in printed
        if re.match("_gemm_mha|__myl_Fc", layer["Name"]) or layer["LayerType"] in ("gemm", "correlation")
    ]
    assert len(products) == layers

    census = census_of(name)
    assert [layer.name for layer, _ in multiplying(census)] == products
    queries, keys = (12, tokens, 64), (12, 64, tokens)
    for layer in (one for one in census.layers if one.name.startswith("_gemm_mha_v2")):
        assert [use.shape for use in uses(layer)] == [queries, keys, queries, queries]
        operators = [node.op for node in census.sources if node.name in layer.sources]
        assert sorted(operators) == ["MatMul", "MatMul", "Mul", "Mul", "Softmax"]
    told = facts(census)
    attention = 4 * tokens**2 * 768
    assert told["flops"] == 12 * (2 * tokens * 12 * 768**2 + attention) + beside
    shares_of_attention = [one["work"] for one in told["compute"].values() if one["layer"].startswith("_gemm_mha")]
    assert shares_of_attention == [pytest.approx(attention / 2 / told["flops"], abs=1e-6)] * 24
    assert (told["compute_layers"], told["share"]) == ({"fp16": layers}, {"fp16": 1.0})


@pytest.mark.parametrize(("name", "position"), [("vit_b_16", 98), ("transformer", 120)])
def test_float_passes_only_between_the_halves_of_the_last_normalisation(name, position):
    first, second = printed_layers(name)[position : position + 2]
    assert [tensor["Format/Datatype"] for tensor in (*first["Outputs"], *second["Inputs"])] == ["Float"] * 4
    census = census_of(name)
    wide = [layer for layer in census.layers if any(use.datatype is Datatype.FP32 for use in uses(layer))]
    assert wide == list(census.layers[position : position + 2])
    assert [layer.name for layer in wide] == [
        f"__myl_AddAddCastMeanSubMulMean_myl0_{position}",
        f"__myl_AddSqrtDivMulCastMulAddSlic_myl0_{position + 1}",
    ]
    assert not {layer.name for layer in wide} & {layer.name for layer, _ in multiplying(census)}


def test_the_transformers_three_projections_are_one_product():
    names = re.findall(r'"Name": "(node_MatMul_\d+\+node_MatMul_\d+\+node_MatMul_\d+)_myl0_\d+"', raw("transformer"))
    assert (len(names), names[0]) == (12, "node_MatMul_29+node_MatMul_21+node_MatMul_13")
    census = census_of("transformer")
    merged = [layer for layer in census.layers if len(layer.outputs) == 1 and layer.outputs[0].shape[-1] == 3 * 768]
    assert [list(layer.sources) for layer in merged] == [name.split("+") for name in names]
    assert {layer.kind for layer in merged} == {"gemm"}
    # Tokens are read as integers, and the slice of the positions is named by that kernel alone, whose name has none.
    entry = census.layers[0]
    assert [use.datatype for use in uses(entry)] == [Datatype.INT64, Datatype.FP16]
    assert entry.sources == ("node_layer_norm", "node_add", "node_slice_1", "node_embedding")
    assert constants_of(census).unproven == ("node_slice_1",)


WIDENED = [
    ("resnet18", "node_Conv_305_myl0_9", 2 * 64 * 128 * 28**2),
    ("mobilenet_v3_small", "node_conv2d_3_myl0_6", 2 * 8 * 16),
    ("vit_b_16", "_gemm_mha_v2_myl0_5", 4 * 197**2 * 768),
    ("vit_b_16", "__myl_FcAdd_myl0_100", 2 * 768 * 1000),
    ("transformer", "node_MatMul_29+node_MatMul_21+node_MatMul_13_myl0_1", 3 * 2 * 128 * 768**2),
]


@pytest.mark.parametrize(("name", "layer", "work"), WIDENED)
def test_a_layer_that_reads_float_takes_its_work_out_of_half_precision(name, layer, work):
    data = json.loads(raw(name))
    (one,) = (item for item in data["Layers"] if item["Name"] == layer)
    for tensor in one["Inputs"]:
        tensor["Format/Datatype"] = "Float"
    found = shares(with_sources(parse_inspector_json(json.dumps(data)), FILES[name][1]))
    wide = work / facts(census_of(name))["flops"]
    assert found == {Datatype.FP16: pytest.approx(1 - wide), Datatype.FP32: pytest.approx(wide)}
