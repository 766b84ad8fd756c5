"""Operator and tensor fusion: real engines that hold the claims, and real engines in which they are false."""

import re
from pathlib import Path

import onnx
import pytest
from engine_samples import logged
from onnx import TensorProto, helper

from trtgate.backends import tensorrt_engine
from trtgate.case import BackendName, Case, Precision
from trtgate.judge.census import compare_census_facts
from trtgate.measure import optimisation
from trtgate.measure.census import SourceNode
from trtgate.measure.compute_share import facts
from trtgate.policy import load
from trtgate.policy.optimisation import LayerFloor, OptimisationSettings
from trtgate.workloads import micro_models, registry

SETTINGS = OptimisationSettings()
REPOSITORY = load(Path(__file__).parents[2] / "trtgate.toml").optimisation
CASE = Case.parse("resnet18-tensorrt_engine-fp16-b8-stream")
AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
needs_builder = pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")


@needs_builder
def test_what_this_builder_merges(engine):
    """Recorded from TensorRT-RTX 1.4 and 1.6: three products become one, two convolutions stay two."""
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        model = micro_models.get("parallel_matmuls")
        found = optimisation.check_micro(engine(model.name, precision), model, precision, SETTINGS, "micro")
        assert found.counts == {"layers_of_parallel_matmuls": 1}
        model = micro_models.get("parallel_convs")
        found = optimisation.check_micro(engine(model.name, precision), model, precision, SETTINGS, "micro")
        assert found.counts == {"layers_of_parallel_convs": 2}


def _unshared_input():
    """Three products, each behind an activation of its own: there is no input that they share, and nothing to merge."""
    model = micro_models.get("parallel_matmuls").model(Precision.FP16)
    products = {node.input[1].removeprefix("w_"): node for node in model.graph.node}
    for op, (part, product) in zip(("Relu", "Sigmoid", "Tanh"), products.items(), strict=True):
        model.graph.node.insert(0, helper.make_node(op, ["x"], [f"x_{part}"], name=f"activate_{part}"))
        product.input[0] = f"x_{part}"
    onnx.checker.check_model(model)
    return model


@needs_builder
def test_a_merge_that_is_lost_is_found_on_a_runtime_that_is_known_to_merge(engine):
    """A real engine in which the products run apart, held to the limits of this repository."""
    model = micro_models.get("parallel_matmuls")
    merged, apart = engine(model.name, Precision.FP16), engine(_unshared_input(), Precision.FP16)
    assert REPOSITORY.merged_layers_for(model.name, merged.runtime) == 1
    assert optimisation.check_micro(merged, model, Precision.FP16, REPOSITORY, "micro").violations == []
    (violation,) = optimisation.check_micro(apart, model, Precision.FP16, REPOSITORY, "micro").violations
    assert violation.check == "tensor fusion"
    assert re.match(r"project_query, project_key, project_value run in [23] layers, at most 1", violation.message)
    # Of a runtime of which nothing is known, the history judges.
    unknown = apart.model_copy(update={"runtime": "tensorrt 11.4.0.106"})
    assert optimisation.check_micro(unknown, model, Precision.FP16, REPOSITORY, "micro").violations == []


@needs_builder
def test_float32_attention_is_not_fused_and_the_check_says_so(engine):
    """A real engine in which the claim is false: without half precision there is no fused kernel."""
    model = micro_models.get("attention")
    census = engine("attention", Precision.FP32)
    (violation,) = optimisation.check_attention(census, model.attention, 1)
    assert "fell into 3 kernels" in violation.message
    assert "scores" in violation.message
    assert len(violation.layers) == 3
    held = optimisation.check_micro(census, model, Precision.FP32, SETTINGS, "micro")
    assert (held.violations, held.counts) == ([], {"attention_kernels": 3})
    tighter = OptimisationSettings(attention_kernels_float32=2)
    (violation,) = optimisation.check_micro(census, model, Precision.FP32, tighter, "micro").violations
    assert "fell into 3 kernels, at most 2" in violation.message
    assert optimisation.check_attention(engine("attention", Precision.FP16), model.attention, 1) == []


def _exposed_convolution():
    """Convolution + bias + relu whose convolution is an output too, so that the three cannot be one layer."""
    model = micro_models.get("conv_block").model(Precision.FP16)
    model.graph.output.append(helper.make_tensor_value_info("c2", TensorProto.FLOAT16, (2, 64, 28, 28)))
    return model


@needs_builder
def test_a_fusion_that_is_broken_is_found(engine):
    census = engine(_exposed_convolution(), Precision.FP16)
    model = micro_models.get("conv_block")
    assert optimisation.check_one_layer(census, model.one_layer[0]) == []
    (violation,) = optimisation.check_one_layer(census, model.one_layer[1])
    assert "2 layers instead of one" in violation.message


@needs_builder
def test_a_fusion_that_two_real_engines_differ_in_is_told_by_layer(engine):
    base, head = (facts(engine(model, Precision.FP16)) for model in ("conv_block", _exposed_convolution()))
    (sentence, *_) = compare_census_facts(base, head)
    assert re.match(
        r"kernel '\S+' came apart: 'conv_residual' in '\S+'; 'add_residual' and 'relu_residual' in", sentence
    )


def test_a_normalisation_that_is_split_in_the_recorded_vit_is_told_by_layer():
    census = logged("vit_b_16_fp16_rtx_1.6")
    (norm,) = (layer for layer in census.layers if layer.sources == ("node_layer_norm_2",))
    halves = [norm.model_copy(update={"name": f"{norm.name}_{half}"}) for half in "ab"]
    layers = [one for layer in census.layers for one in (halves if layer is norm else [layer])]
    worse = compare_census_facts(facts(census), facts(census.model_copy(update={"layers": tuple(layers)})))
    assert [re.sub(r" \(.*", "", sentence) for sentence in worse] == [
        "node 'node_layer_norm_2' runs in 3 kernels",
        "138 kernels instead of 137.",
    ]


def test_pairs_that_a_quantiser_adds_raise_no_ratio():
    """The zoo's transformer, with a pair before each of its products that fuses into the product's layer."""
    census = logged("transformer_fp16_rtx_1.6")
    products = [node.name for node in census.sources if node.flops]
    pairs = {name: (f"{name}_quantise", f"{name}_dequantise") for name in products}
    more = tuple(
        SourceNode(name=pair, op=op)
        for names in pairs.values()
        for pair, op in zip(names, ("QuantizeLinear", "DequantizeLinear"), strict=True)
    )
    layers = tuple(
        layer.model_copy(update={"sources": sum((pairs.get(name, ()) for name in layer.sources), layer.sources)})
        for layer in census.layers
    )
    quantised = census.model_copy(update={"sources": (*census.sources, *more), "layers": layers})
    assert facts(quantised)["nodes_per_layer"] == facts(census)["nodes_per_layer"] == round(402 / 123, 3)


@pytest.mark.parametrize("precision", [one for one in Precision if one.value != "int8"])
@pytest.mark.parametrize("workload", registry.OWN)
def test_every_engine_that_builds_has_a_floor_on_the_newest_runtime_that_was_measured(workload, precision):
    case = Case(workload, BackendName.TENSORRT_ENGINE, precision, 1)
    assert len(REPOSITORY.layer_floors_for(case, "tensorrt_rtx 1.6.1.120")) == 1


def test_the_floor_on_nodes_per_layer_can_fail():
    census = logged("mobilenet_v3_small_fp16_rtx_1.4")  # 122 nodes in 84 kernels
    assert optimisation.check_nodes_per_layer(census, 1.45, "recorded") == []
    (violation,) = optimisation.check_nodes_per_layer(census, 1.46, "recorded")
    assert "122 nodes run in 84 kernels" in violation.message
    floor = LayerFloor(workload="resnet18", nodes_per_layer=1.46, reason="recorded")
    settings = OptimisationSettings(layer_floor=(floor,))
    assert [one.check for one in optimisation.check_case(census, CASE, settings).violations] == ["operator fusion"]
    other = Case.parse("resnet50-tensorrt_engine-fp16-b8-stream")
    assert optimisation.check_case(census, other, settings).violations == []
