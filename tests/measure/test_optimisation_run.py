"""Proving a micro model and a case from build to facts."""

import json

import pytest
import torch
from engine_samples import text

from trtgate.backends import tensorrt_engine
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import Case, Precision
from trtgate.errors import OptimisationError, UnsupportedCaseError
from trtgate.measure import optimisation_run
from trtgate.measure.timing import BuildStopwatch
from trtgate.policy.optimisation import OptimisationSettings
from trtgate.workloads import micro_models

AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
needs_builder = pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")


@pytest.fixture
def context(tmp_path):
    return BuildContext(torch.device("cpu"), None, tmp_path, BuildStopwatch())


@needs_builder
def test_facts_are_plain_json_and_name_every_product(context):
    model = micro_models.get("attention")
    proven = optimisation_run.prove_micro(model, Precision.FP16, context, OptimisationSettings())
    facts = json.loads(json.dumps(proven.facts))
    assert facts == proven.facts
    assert facts["counts"] == {"attention_kernels": 1}
    assert set(facts["compute"]) == {"scores", "values"}
    assert facts["violations"] == []
    assert proven.kernels == facts["kernels"] == 5


@needs_builder
def test_a_claim_that_does_not_hold_is_an_error_that_names_the_layer(context, monkeypatch):
    """Float32 attention is held to the limit of half precision, which it cannot meet."""
    monkeypatch.setattr("trtgate.measure.optimisation._HALF", (Precision.FP32,))
    model = micro_models.get("attention")
    with pytest.raises(OptimisationError, match=r"attention-tensorrt_engine-fp32-b1-stream: .*3 kernels.*scores_myl0"):
        optimisation_run.prove_micro(model, Precision.FP32, context, OptimisationSettings())


class TorchTensorRTModule(Runner):
    """Tells of itself what a torch-tensorrt module on an H100 told (tests/data/engines/README.md)."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.facts.details |= {"tensorrt_blocks": 1, "pytorch_operators": {}}

    def inspector_json(self):
        return [json.dumps({"Layers": self.layers})]

    def bind(self, inputs):
        raise NotImplementedError

    enqueue = outputs = close = bind


def test_torch_tensorrts_layers_are_held_to_their_datatype(context):
    layers = json.loads(text("conv_bn_relu_fp16.json"))["Layers"]
    case = Case.parse("simple_cnn-torch_tensorrt-fp16-b8-stream")

    def prove(layers):
        runner = TorchTensorRTModule(layers)
        return optimisation_run.prove_case(None, case, context, OptimisationSettings(), runner)

    facts = prove(layers).facts
    assert set(facts["compute_layers"]) == set(facts["layer_datatypes"].values()) == {"fp16"}
    wide = json.loads(json.dumps(layers).replace("Half", "Float").replace("FP16", "FP32"))
    with pytest.raises(OptimisationError, match=r"layer '\S+' multiplies in fp32 in the fp16 engine"):
        prove(wide)


def test_a_case_without_layers_is_refused(context):
    case = Case.parse("resnet18-eager-fp32-b1-stream")
    with pytest.raises(UnsupportedCaseError, match="keeps no list of layers"):
        optimisation_run.prove_case(None, case, context, OptimisationSettings())
