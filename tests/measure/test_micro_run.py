"""A shallow quantised model is really run, and held to a few roundings."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from trtgate.backends import tensorrt_engine
from trtgate.case import BackendName, Precision
from trtgate.errors import OptimisationError
from trtgate.measure import micro_run, optimisation_run
from trtgate.measure.compute_share import facts
from trtgate.measure.micro_run import Executed
from trtgate.measure.optimisation_run import micro_case, prove_micro
from trtgate.measure.ort_census import census_from_onnxruntime
from trtgate.policy.optimisation import OptimisationSettings
from trtgate.workloads import micro_models

SETTINGS = OptimisationSettings()
AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
needs_builder = pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the engine is run")
MLP = micro_models.get("mlp")
CASE = micro_case(MLP, Precision.INT8)


@pytest.fixture
def path(tmp_path):
    return MLP.write(tmp_path, Precision.INT8)


@no_gpu
def test_onnxruntime_runs_the_int8_model_as_integers_and_agrees(path, cpu_context):
    found = micro_run.execute(path, CASE, cpu_context, SETTINGS.quantised_error)
    assert found.backend is BackendName.ONNXRUNTIME
    assert found.relative_l2 < 1e-5
    assert found.violations() == []
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_name("optimised.onnx"))
    twin = path.with_name("mlp_int8_float32.onnx")
    onnxruntime.InferenceSession(str(twin), options, providers=["CPUExecutionProvider"])
    told = facts(census_from_onnxruntime(path.with_name("optimised.onnx"), twin))
    assert told["share"] == {"int8": 1.0}
    assert told["kinds"]["com.microsoft.MatMulIntegerToFloat"] == 2


@no_gpu
@pytest.mark.parametrize("fault", ["unquantised", "one scale", "infinity"])
def test_a_model_that_computes_something_else_is_found(path, cpu_context, monkeypatch, fault):
    right = micro_run.OnnxRuntimeTensors

    def wrong(model, inputs, **options):
        broken = onnx.ModelProto.FromString(model.SerializeToString())
        if fault == "unquantised":
            kept = [node for node in broken.graph.node if "uantizeLinear" not in node.op_type]
            for node in kept:
                node.input[:] = [name.removesuffix("_dq") for name in node.input]
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
            del broken.graph.node[:]
            broken.graph.node.extend(copies)
        for tensor in broken.graph.initializer:
            if fault == "one scale" and tensor.name == "g_scale":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.2), tensor.name))
            if fault == "infinity" and tensor.name == "w2_scale":
                tensor.CopyFrom(numpy_helper.from_array(np.float32(np.inf), tensor.name))
        return right(broken, inputs, **options)

    monkeypatch.setattr(micro_run, "OnnxRuntimeTensors", wrong)
    found = micro_run.execute(path, CASE, cpu_context, SETTINGS.quantised_error)
    assert found.relative_l2 > SETTINGS.quantised_error
    assert (found.relative_l2 == math.inf) is (fault == "infinity")
    (violation,) = found.violations()
    assert violation.message.startswith("run by onnxruntime, the model is ")
    assert "0.02 are allowed" in violation.message


@no_gpu
def test_what_nothing_here_runs_is_not_run(tmp_path, cpu_context):
    for precision in (Precision.FP8, Precision.FP16):
        written = MLP.write(tmp_path, precision)
        assert micro_run.execute(written, micro_case(MLP, precision), cpu_context, 0.02) is None


@needs_builder
@no_gpu
def test_the_proof_of_the_micro_model_holds_what_was_run_and_fails_with_it(cpu_context, monkeypatch):
    facts = prove_micro(MLP, Precision.INT8, cpu_context, SETTINGS).facts
    assert facts["executed"]["backend"] == "onnxruntime"
    assert facts["executed"]["relative_l2"] < facts["executed"]["bound"] == 0.02
    assert "executed" not in prove_micro(MLP, Precision.FP16, cpu_context, SETTINGS).facts
    wrong = Executed(BackendName.ONNXRUNTIME, 0.5, 0.02)
    monkeypatch.setattr(optimisation_run.micro_run, "execute", lambda *_: wrong)
    with pytest.raises(OptimisationError, match=r"run by onnxruntime, the model is 0\.5 of the norm away"):
        prove_micro(MLP, Precision.INT8, cpu_context, SETTINGS)
