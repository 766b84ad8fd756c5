"""Precision reduction: explanations take work out of the sum, and what stayed float is named."""

import pytest
from engine_samples import inspected

from trtgate.case import Precision
from trtgate.measure.census import Census, Datatype, Layer, Role, SourceNode, TensorUse
from trtgate.measure.precision_check import check_layer_precision, check_precision
from trtgate.policy.optimisation import ExplainedLayer, OptimisationSettings

CASE = "simple_cnn-tensorrt_engine-int8-b8-stream"
# What ModelOpt leaves alone in simple_cnn, and how its work is shared out (see trtgate.toml).
CONVOLUTIONS = OptimisationSettings(
    explained=(ExplainedLayer(case="simple_cnn-*", node="conv*", datatype="fp16", reason="few channels"),)
)
WORK = {"conv_1": 300, "conv_2": 666, "linear_1": 33, "linear_2": 1}


def engine(**datatypes):
    """An engine with a layer a node, each in the datatype that is named."""
    layers = []
    for name, kind in datatypes.items():
        uses = tuple(TensorUse(name=f"{name}_{end}", shape=(8, 8), datatype=Datatype(kind)) for end in ("in", "w"))
        layers.append(
            Layer(
                name=f"{name}_myl0_1",
                kind="gemm",
                role=Role.COMPUTE,
                sources=(name,),
                inputs=uses[:1],
                outputs=(),
                constants=uses[1:],
            )
        )
    nodes = tuple(SourceNode(name=name, op="Conv", flops=flops, activations=1) for name, flops in WORK.items())
    return Census(origin="build_log", layers=tuple(layers), sources=nodes)


def messages(census, precision=Precision.INT8, settings=CONVOLUTIONS):
    return [one.message for one in check_precision(census, precision, settings, CASE)]


def test_explained_work_is_taken_out_of_the_sum():
    assert messages(engine(conv_1="fp16", conv_2="fp16", linear_1="int8", linear_2="int8")) == []


def test_explained_work_does_not_stand_in_for_the_rest():
    """96.6% explained, and nothing at all in int8: the explained work must not carry the row over its floor."""
    (message,) = messages(engine(conv_1="fp16", conv_2="fp16", linear_1="fp16", linear_2="fp16"))
    assert message.startswith("0.0% of the work that nothing explains runs in int8, the floor is 90.0%")
    (message,) = messages(engine(conv_1="fp16", conv_2="fp16", linear_1="fp16", linear_2="int8"))
    assert message.startswith("2.9% of the work")


def test_what_stayed_float_is_named_with_layer_and_datatype():
    census = engine(conv_1="int8", conv_2="fp16", linear_1="bf16", linear_2="int8")
    (violation,) = check_precision(census, Precision.INT8, OptimisationSettings(), CASE)
    assert violation.message == (
        "30.1% of the work runs in int8, the floor is 90.0%; not in int8: "
        "'conv_2' in fp16 (layer 'conv_2_myl0_1', 66.6% of all work), "
        "'linear_1' in bf16 (layer 'linear_1_myl0_1', 3.3% of all work)."
    )
    assert violation.layers == ("conv_2_myl0_1", "linear_1_myl0_1")
    float32 = messages(engine(conv_1="int8", conv_2="int8", linear_1="int8", linear_2="fp32"))
    assert float32 == [
        "node 'linear_2' runs in fp32 in layer 'linear_2_myl0_1' of the int8 engine, and nothing explains it."
    ]


def test_an_engine_that_is_explained_away_proves_nothing():
    everything = OptimisationSettings(
        explained=(ExplainedLayer(case="*", node="*", datatype="fp16", reason="too generous"),)
    )
    (message,) = messages(engine(**dict.fromkeys(WORK, "fp16")), settings=everything)
    assert message == "all of the work is explained away, so none of it runs in int8."
    assert messages(engine(**dict.fromkeys(WORK, "int8")), settings=everything) == []


def test_work_that_no_layer_claims_counts_against_the_share():
    first, second = messages(engine(conv_1="int8", linear_1="int8", linear_2="int8"), settings=OptimisationSettings())
    assert "conv_2" in first
    assert second == "33.4% of the work runs in int8, the floor is 90.0%; not in int8: what no layer claims."


def widened(census, count):
    """The first layers that multiply, in float32."""
    wide = [layer for layer in census.layers if layer.role is Role.COMPUTE][:count]

    def in_float32(uses):
        return tuple(use.model_copy(update={"datatype": Datatype.FP32}) for use in uses)

    layers = tuple(
        layer.model_copy(update={"inputs": in_float32(layer.inputs), "constants": in_float32(layer.constants)})
        if layer in wide
        else layer
        for layer in census.layers
    )
    return census.model_copy(update={"layers": layers}), [layer.name for layer in wide]


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.FP16])
def test_layers_without_source_nodes_are_judged_one_by_one(precision):
    """torch-tensorrt's layers name PyTorch operators: an engine that ran on an H100, with layers made float32."""
    sample = "r18fp8_layers.json" if precision is Precision.FP8 else "conv_bn_relu_fp16.json"
    census = inspected(sample).model_copy(update={"sources": ()})
    case = f"resnet18-torch_tensorrt-{precision}-b8-stream"
    settings = OptimisationSettings()
    assert check_layer_precision(census, precision, settings, case) == []
    wide, names = widened(census, 1)
    (violation,) = check_layer_precision(wide, precision, settings, case)
    assert violation.layers == (names[0],)
    assert f"layer '{names[0]}' multiplies in fp32 in the {precision} engine" in violation.message
    entry = ExplainedLayer(case=case, node=names[0], datatype="fp32", reason="kept for accuracy")
    assert check_layer_precision(wide, precision, OptimisationSettings(explained=(entry,)), case) == []
    assert check_layer_precision(wide, Precision.FP32, settings, case) != []


def test_what_a_rule_of_the_quantisers_leaves_alone_is_explained_in_the_datatype_that_it_leaves():
    census = engine(conv_1="fp16", conv_2="fp16", linear_1="int8", linear_2="int8")
    narrow = dict.fromkeys(("conv_1", "conv_2"), Datatype.FP16)

    def found(left_alone, census=census):
        return check_precision(census, Precision.INT8, OptimisationSettings(), CASE, left_alone)

    assert found(narrow) == []
    assert [one.message[:5] for one in found({"conv_1": Datatype.FP16})] == ["4.9% "]
    # The quantiser left them in fp16: that they run in fp32 is the engine's doing.
    wide = engine(conv_1="fp32", conv_2="fp16", linear_1="int8", linear_2="int8")
    assert any("'conv_1' runs in fp32" in one.message for one in found(narrow, wide))
    everything = dict.fromkeys(WORK, Datatype.FP16)
    (violation,) = found(everything, engine(**dict.fromkeys(WORK, "fp16")))
    assert "all of the work is explained away" in violation.message
