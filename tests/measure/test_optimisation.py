"""Every optimisation check on real engines built ahead of time, and on engines or graphs where the claim is false."""

import numpy as np
import onnx
import pytest
from engine_samples import inspected, logged
from onnx import TensorProto, helper, numpy_helper

from trtgate.backends import tensorrt_engine
from trtgate.case import Precision
from trtgate.errors import InspectionError
from trtgate.measure import optimisation
from trtgate.measure.census import Datatype, SourceNode
from trtgate.measure.compute_share import Constants, attribute, constants_of, duplicates, facts, shares
from trtgate.measure.onnx_graph import sources_of_model
from trtgate.measure.ort_census import census_from_onnxruntime
from trtgate.measure.precision_check import DATATYPE_OF, check_precision
from trtgate.policy.optimisation import ExplainedLayer, OptimisationSettings
from trtgate.workloads import micro_models

SETTINGS = OptimisationSettings()
AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
needs_builder = pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")


MICRO = [(name, precision) for name in micro_models.names() for precision in micro_models.get(name).precisions]


@needs_builder
@pytest.mark.parametrize(("name", "precision"), MICRO)
def test_micro_models_hold_what_they_claim(engine, name, precision):
    census = engine(name, precision)
    found = optimisation.check_micro(census, micro_models.get(name), precision, SETTINGS, "micro")
    assert found.violations == []
    told = found.facts(census)
    assert told["share"] == {DATATYPE_OF[precision]: 1.0}


def _float32_island():
    """The fp16 perceptron whose second product is float32 on every side: input, weights and output.

    Casts round a product would not do: TensorRT-RTX 1.6 takes them away and multiplies in float16, even where the
    weights are float32.
    """
    model = micro_models.get("mlp").model(Precision.FP16)
    nodes = {node.name: node for node in model.graph.node}
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "w2")
    wide = np.random.default_rng(0).standard_normal(tuple(weight.dims)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(wide, "w2"))
    widen = helper.make_node("Cast", ["h"], ["h_wide"], name="widen", to=TensorProto.FLOAT)
    nodes["gelu"].input[:] = ["h_wide"]
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    ordered = [nodes["expand"], widen, nodes["gelu"], nodes["contract"]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    onnx.checker.check_model(model)
    return model


@needs_builder
def test_a_float32_layer_in_an_fp16_engine_is_found_and_can_be_explained(engine):
    census = engine(_float32_island(), Precision.FP16)
    assert shares(census)[Datatype.FP32] == pytest.approx(0.5)
    found = check_precision(census, Precision.FP16, SETTINGS, "micro")
    assert [one.check for one in found] == ["precision reduction"] * 2
    assert "node 'contract' runs in fp32" in found[0].message
    assert "50.0% of the work runs in fp16" in found[1].message
    assert "'contract' in fp32" in found[1].message
    explained = OptimisationSettings(
        explained=(ExplainedLayer(case="micro", node="contract", datatype="fp32", reason="kept for accuracy"),)
    )
    assert check_precision(census, Precision.FP16, explained, "micro") == []
    assert check_precision(census, Precision.FP16, explained, "another") != []


@needs_builder
def test_an_engine_of_another_precision_is_found(engine):
    assert check_precision(engine("mlp", Precision.FP32), Precision.FP16, SETTINGS, "micro") != []
    assert check_precision(engine("mlp", Precision.FP16), Precision.FP32, SETTINGS, "micro") != []
    assert check_precision(engine("mlp", Precision.FP16), Precision.INT8, SETTINGS, "micro") != []


@pytest.fixture(scope="module")
def unoptimised(tmp_path_factory):
    """The redundant model as ONNX Runtime runs it with every optimisation off: nothing has been removed."""
    import onnxruntime

    folder = tmp_path_factory.mktemp("unoptimised")
    path = micro_models.get("redundant").write(folder, Precision.FP32)

    def session(level, name):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(folder / name)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return census_from_onnxruntime(folder / name, path)

    levels = onnxruntime.GraphOptimizationLevel
    return session(levels.ORT_DISABLE_ALL, "off.onnx"), session(levels.ORT_ENABLE_EXTENDED, "on.onnx")


def test_redundancies_that_are_left_are_found(unoptimised):
    off, on = unoptimised
    messages = " ".join(one.message for one in optimisation.check_graph(off))
    for name in ("constant_exp", "constant_div", "constant_sqrt", "product_again"):
        assert f"'{name}'" in messages
    # ONNX Runtime removes all of them but the dead branch, which it computes at every level of optimisation.
    assert {one.message for one in optimisation.check_graph(on)} == {
        "no output needs 'dead_product', yet it is computed.",
        "no output needs 'dead_relu', yet it is computed.",
    }
    model = micro_models.get("redundant")
    left = optimisation.check_absent(off, model.absent, model.absent_operations)
    assert {"transpose_there", "transpose_back"} <= {one.message.split("'")[1] for one in left}
    # Its census lends removed nodes to the layer that follows them, so only the layers themselves can tell.
    assert optimisation.check_absent(on, (), model.absent_operations) == []


@needs_builder
def test_dead_and_repeated_nodes_in_an_engine_are_found(engine):
    """An engine whose metadata claims a dead node, and one whose output has room for both of a pair of equals."""
    census = engine("redundant", Precision.FP16)
    product = next(layer for layer in census.layers if "product_again" in layer.sources)
    others = tuple(layer for layer in census.layers if layer is not product)
    dead = product.model_copy(update={"name": "extra", "sources": ("dead_product",)})
    found = optimisation.check_graph(census.model_copy(update={"layers": (*census.layers, dead)}))
    assert [one.message for one in found] == ["no output needs 'dead_product', yet it is computed."]

    wide = tuple(use.model_copy(update={"shape": (128, 128)}) for use in product.outputs)
    merged = product.model_copy(update={"sources": ("product", "product_again"), "outputs": wide})
    assert duplicates(census)[1] == []
    assert duplicates(census.model_copy(update={"layers": (merged, *others)}))[1] == ["product_again"]
    # One result in two layouts, or in two datatypes, has as much room and is computed once.
    (narrow,) = product.outputs
    for other in ({"layout": "another layout"}, {"datatype": Datatype.FP32}):
        twice = merged.model_copy(update={"outputs": (narrow, narrow.model_copy(update=other))})
        assert duplicates(census.model_copy(update={"layers": (twice, *others)}))[1] == []
    both = merged.model_copy(update={"outputs": (narrow, narrow.model_copy(update={"name": "again"}))})
    assert duplicates(census.model_copy(update={"layers": (both, *others)}))[1] == ["product_again"]
    twice = product.model_copy(update={"name": "again", "sources": ("product",)})
    assert duplicates(census.model_copy(update={"layers": (*census.layers, twice)}))[1] == ["product_again"]


@needs_builder
def test_a_constant_in_a_kernels_name_is_found(engine):
    census = engine("redundant", Precision.FP16)
    chain = ("constant_exp", "constant_div", "constant_sqrt")
    assert constants_of(census) == Constants(folded=chain, left=(), unproven=())
    layers = tuple(
        layer.model_copy(update={"operations": (*layer.operations, "Sqrt")}) if layer.operations else layer
        for layer in census.layers
    )
    spelt = census.model_copy(update={"layers": layers})
    assert constants_of(spelt) == Constants(folded=chain[:2], left=chain[2:], unproven=())


@needs_builder
def test_a_constant_of_which_no_layer_shows_what_became_is_not_said_to_be_folded(engine):
    census = engine("redundant", Precision.FP16)

    def told(layer, **source):
        """The constants where a layer takes in the chain, and one live node is another operator."""
        nodes = tuple(node.model_copy(update=source if node.name == "join" else {}) for node in census.sources)
        found = constants_of(census.model_copy(update={"layers": (layer,), "sources": nodes}))
        assert not found.left
        return len(found.folded), len(found.unproven)

    kernel = next(layer for layer in census.layers if "constant_exp" in layer.sources)
    assert told(kernel) == (3, 0)
    assert told(kernel, op="Gelu") == (0, 3)  # made of several operations, of which any may be spelt
    assert told(kernel.model_copy(update={"operations": ()})) == (0, 3)  # its name spells nothing
    # A live node of the same operation explains what is spelt.
    assert told(kernel.model_copy(update={"operations": ("Sqrt",)}), op="Sqrt") == (2, 1)
    assert told(kernel.model_copy(update={"sources": ("join",)})) == (3, 0)
    told_by_graph = census.model_copy(update={"origin": "onnxruntime"})
    assert constants_of(told_by_graph).unproven == ()
    assert facts(census)["constants_unproven"] == 0


def test_work_that_no_layer_claims_is_found():
    census = logged("transformer_fp16_rtx_1.6")
    layers = tuple(layer for layer in census.layers if "node_MatMul_74" not in layer.sources)
    cut = census.model_copy(update={"layers": layers})
    found = check_precision(cut, Precision.FP16, SETTINGS, "case")
    assert "node_MatMul_74" in found[0].message
    assert shares(cut)[Datatype.UNKNOWN] > 0


def test_fp8_share_of_the_resnet18_that_ran_on_an_h100():
    """Shares by hand: the first convolution (6.5% of the work) stays in fp16, everything else is fp8."""
    census = inspected("r18fp8_layers.json")
    # 2 x output elements x input channels x kernel area, from the dimensions in the JSON and ResNet-18's kernels.
    nodes = []
    for layer in census.layers:
        if layer.kind in ("correlation", "gemm"):
            name = layer.sources[0]
            channels = 3 if name == "node_Conv_292" else layer.inputs[0].shape[1]
            area = 49 if name == "node_Conv_292" else 1 if name in DOWNSAMPLES or layer.kind == "gemm" else 9
            work = 2 * layer.outputs[0].elements * channels * area
            nodes.append(SourceNode(name=name, op="Conv", flops=work, activations=1))
    share = shares(census.model_copy(update={"sources": tuple(nodes)}))
    first = 2 * 8 * 64 * 112 * 112 * 3 * 49
    assert share[Datatype.FP16] == pytest.approx(first / sum(node.flops for node in nodes))
    assert share[Datatype.FP16] == pytest.approx(0.065, abs=0.002)
    assert Datatype.FP32 not in share


DOWNSAMPLES = ("node_Conv_313", "node_Conv_328", "node_Conv_343")


def test_a_census_without_its_graph_cannot_be_shared_out():
    with pytest.raises(InspectionError, match="no source graph"):
        attribute(inspected("r18fp8_layers.json"))
    assert "share" not in facts(inspected("r18fp8_layers.json"))


def test_coverage_names_what_fell_back():
    assert optimisation.check_coverage({"blocks": 1, "fell_back": []}) == []
    (violation,) = optimisation.check_coverage({"blocks": 2, "fell_back": ["aten.nonzero.default"]})
    assert "2 TensorRT blocks" in violation.message
    assert "aten.nonzero.default" in violation.message


def test_source_nodes_of_the_redundant_model():
    nodes = {node.name: node for node in sources_of_model(micro_models.get("redundant").model(Precision.BF16))}
    assert nodes["product_again"].duplicate_of == "product"
    assert {name for name, node in nodes.items() if node.constant} == {"constant_exp", "constant_div", "constant_sqrt"}
    assert {name for name, node in nodes.items() if node.dead} == {"dead_product", "dead_relu"}
    assert nodes["product"].flops == 2 * 4 * 32 * 64 * 64
