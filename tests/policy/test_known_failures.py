"""The known failures of this repository name exactly the rows that were seen to fail."""

from pathlib import Path

import pytest

from trtgate.case import Case
from trtgate.errors import ParityError
from trtgate.measure.reference import _require_tight
from trtgate.policy import load
from trtgate.record import Identity
from trtgate.workloads import registry

POLICY = load(Path(__file__).parents[2] / "trtgate.toml")
INT8_CONVOLUTIONS = {
    "resnet18",
    "resnet50",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
}
RUINED = {"mobilenet_v3_small", "efficientnet_b0"}
CASE = "mobilenet_v3_small-onnxruntime-int8-b1-stream"
# As TensorRT-RTX 1.6.1.120 says it.
MYELIN = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([myelin_graph.h:1259: attachExceptionMsgToGraph] "
    "MyelinCheckException: cudnn_impl.cpp:89: CHECK(dtype == myelinTypeFloat || dtype == myelinTypeHalf || dtype == "
    "myelinTypeBF16 || dtype == myelinTypeFP8E4M3) failed.  In compileGraph at codeGenerator.cpp:1962)"
)


@pytest.fixture
def identity():
    absent = dict.fromkeys(("gpu", "architecture", "driver", "cuda", "torch_tensorrt", "onnxruntime"))
    stack = {"tensorrt_flavour": "tensorrt_rtx", "tensorrt": "1.6.1.120", "torch": "2.14.1", "python": "3.12"}
    return Identity(cpu="a CPU", threads=2, **stack, **absent)


def known(identity, workload, backend, precision):
    sequence = registry.default_sequence(workload)
    shape = "b8" if sequence is None else f"b8s{sequence}"
    case = Case.parse(f"{workload}-{backend}-{precision}-{shape}-graph")
    return next(iter(POLICY.known_failures_for(case, identity, "build", "parity", "run", "optimisation")), None)


@pytest.mark.parametrize("workload", registry.names())
def test_int8_convolutions_are_expected_to_fail_on_tensorrt_rtx_and_nothing_else_is(identity, workload):
    found = known(identity, workload, "tensorrt_engine", "int8")
    assert (found is not None) == (workload in INT8_CONVOLUTIONS)
    assert found is None or (found.stage == "build" and found.explains(MYELIN) and not found.explains("a bug of ours"))
    # At batch 8; see the entry.
    assert (known(identity, workload, "tensorrt_engine", "fp8") is not None) == (workload == "efficientnet_b0")


@pytest.mark.parametrize("workload", registry.names())
def test_models_that_quantising_ruins_are_known_by_what_parity_says_of_them(identity, workload):
    found = known(identity, workload, "onnxruntime", "int8")
    assert (found is not None) == (workload in RUINED)
    if found is not None:
        with pytest.raises(ParityError) as seen:
            _require_tight((0.94,), ("logits",), "The fake-quantised model", Case.parse(CASE), POLICY.parity)
        assert found.stage == "parity"
        assert found.explains(str(seen.value))
        assert not found.explains("Output 'logits' of batch 0: relative L2 error 0.8 is beyond the bound 0.5")


def test_a_case_that_is_known_to_fail_in_two_stages_is_so_in_both(identity):
    hopper = identity.model_copy(update={"architecture": "sm_90", "tensorrt": "1.4.0.76"})
    case = Case.parse("resnet18-torch_tensorrt-fp8-b8-graph")
    for stage, count in (("parity", 1), ("optimisation", 1), ("build", 0)):
        found = POLICY.known_failures_for(case, hopper, stage)
        assert [entry.stage for entry in found] == [stage] * count


def test_other_runtimes_are_expected_to_build_them(identity):
    assert (
        known(identity.model_copy(update={"tensorrt_flavour": "tensorrt"}), "resnet50", "tensorrt_engine", "int8")
        is None
    )
