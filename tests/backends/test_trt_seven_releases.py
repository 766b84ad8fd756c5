"""The one code path, walked through on each of seven releases: which calls it makes, and what it does if one fails."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from stand_in_tensorrt import StandIn, Tensor

from trtgate.backends import trt_build, trt_runtime
from trtgate.backends.base import BuildContext
from trtgate.backends.trt_runner import TensorRTEngineRunner
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import BuildError, MeasurementError, OutOfDeviceMemoryError, ParserError, PlanError

SURFACES = sorted((Path(__file__).parents[1] / "data/trt_api").glob("*.json"))
CASE = Case("tiny", BackendName.TENSORRT_ENGINE, Precision.FP16, 2)
HANDLE = 0xBEEF
# Out of order, and with an output before an input: nothing may rely on the order of bindings.
TENSORS = [
    Tensor("hidden", "OUTPUT", (2, 8), "HALF"),
    Tensor("scale", "INPUT", (2, 4), "HALF"),
    Tensor("image", "INPUT", (2, 3, 8, 8), "HALF"),
    Tensor("logits", "OUTPUT", (2, 4), "HALF"),
]


@pytest.fixture(params=SURFACES, ids=lambda path: path.stem)
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    path: Path = request.param
    made = StandIn(json.loads(path.read_text()), path.stem, TENSORS)
    logger = SimpleNamespace(messages=trt_runtime.Messages())
    monkeypatch.setattr(trt_runtime, "load", lambda: made)
    monkeypatch.setattr(trt_runtime, "logger", lambda: logger)
    made.logger = logger
    return made


@pytest.fixture
def cuda_context(context: BuildContext, monkeypatch: pytest.MonkeyPatch) -> BuildContext:
    """A context whose stream has a handle and nothing behind it; tensors stay on the CPU."""
    stream = SimpleNamespace(cuda_stream=HANDLE, device=None, synchronize=lambda: None, wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda one: contextlib.nullcontext())
    return dataclasses.replace(context, stream=stream)


def rtx(trt: StandIn) -> bool:
    return trt.__name__ == "tensorrt_rtx"


def build(trt: StandIn, context: BuildContext, precision: Precision, *, ahead_of_time: bool = False) -> trt_build.Built:
    return trt_build.build(Path("m.onnx"), precision, "case", context.stopwatch, ahead_of_time=ahead_of_time)


def runner_of(context: BuildContext) -> TensorRTEngineRunner:
    key = {"plan_sha256": "ab"}
    return TensorRTEngineRunner(b"a plan", key, CASE, context, ("image", "scale"), ("logits", "hidden"))


def refuse(trt: StandIn, what: str) -> None:
    """Log an error in the moment in which a call fails."""
    trt.logger.messages.errors.append(what)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32, Precision.FP16])
def test_a_plan_is_strongly_typed_detailed_and_says_tf32_aloud(
    trt: StandIn, context: BuildContext, precision: Precision
) -> None:
    built = build(trt, context, precision)
    assert built.plan == b"a plan"
    assert built.details["tf32"] is (precision is Precision.TF32)
    assert trt.config.profiling_verbosity == "ProfilingVerbosity.DETAILED"
    trt.builder.create_network.assert_called_once_with(0 if rtx(trt) else 1 << 1)
    if rtx(trt):
        assert trt.config.num_compute_capabilities == 1
        trt.config.set_compute_capability.assert_called_once_with("ComputeCapability.CURRENT", 0)
        trt.config.set_timing_cache.assert_not_called()
    else:
        trt.config.create_timing_cache.assert_called_once_with(b"")
        trt.config.set_timing_cache.assert_called_once_with(trt.config.create_timing_cache.return_value, False)


def test_ahead_of_time_is_for_tensorrt_rtx_alone(trt: StandIn, context: BuildContext) -> None:
    if rtx(trt):
        build(trt, context, Precision.FP32, ahead_of_time=True)
        trt.config.set_compute_capability.assert_called_once_with("ComputeCapability.SM89", 0)
    else:
        with pytest.raises(BuildError, match=rf"without a GPU: tensorrt {trt.__version__}"):
            build(trt, context, Precision.FP32, ahead_of_time=True)


def test_a_builder_that_returns_nothing_is_an_error(trt: StandIn, context: BuildContext) -> None:
    def nothing(network: object, config: object) -> None:
        refuse(trt, "Error Code 10: could not find any implementation")

    trt.builder.build_serialized_network.side_effect = nothing
    with pytest.raises(BuildError, match="built nothing for case: Error Code 10: could not find any implementation"):
        build(trt, context, Precision.FP32)


def test_a_builder_that_runs_out_of_memory_is_told_from_one_that_refuses(trt: StandIn, context: BuildContext) -> None:
    def nothing(network: object, config: object) -> None:
        refuse(trt, "Error Code 2: OutOfMemory (Requested size was 99999 bytes)")

    trt.builder.build_serialized_network.side_effect = nothing
    with pytest.raises(OutOfDeviceMemoryError, match="case ran out of GPU memory"):
        build(trt, context, Precision.FP32)


def test_all_refused_nodes_are_named_and_a_flood_is_cut(trt: StandIn, context: BuildContext) -> None:
    errors = [trt.make("ParserError") for _ in range(7)]
    for index, error in enumerate(errors):
        error.node_name.return_value = f"node_{index}"
        error.node_operator.return_value = "NonZero"
        error.desc.return_value = "not\n  supported."
    trt.parser.parse_from_file.return_value = False
    trt.parser.num_errors = len(errors)
    trt.parser.get_error.side_effect = errors.__getitem__
    with pytest.raises(
        ParserError, match=r"node 'node_0', operator NonZero: not supported; .*'node_4'.*; and 2 more\."
    ):
        build(trt, context, Precision.FP32)


def test_a_runner_binds_torch_tensors_by_address(trt: StandIn, cuda_context: BuildContext) -> None:
    runner = runner_of(cuda_context)
    logits, hidden = runner.outputs()
    assert (logits.shape, hidden.shape) == ((2, 4), (2, 8))
    assert logits.dtype is hidden.dtype is torch.float16
    addresses = {call.args[0]: call.args[1] for call in trt.execution.set_tensor_address.call_args_list}
    assert addresses["logits"] == logits.data_ptr()
    assert addresses["hidden"] == hidden.data_ptr()
    runner.bind((torch.ones(2, 3, 8, 8), torch.full((2, 4), 0.5)))
    image, scale = runner._inputs.tensors
    assert (addresses["image"], addresses["scale"]) == (image.data_ptr(), scale.data_ptr())
    assert image.dtype is torch.float16
    assert (float(image.max()), float(scale.max())) == (1.0, 0.5)
    assert (runner.facts.device_memory_bytes, runner.facts.layers) == (4096, 2)


def test_every_inference_goes_to_the_contexts_stream(trt: StandIn, cuda_context: BuildContext) -> None:
    runner = runner_of(cuda_context)
    trt.execution.execute_async_v3.reset_mock()
    runner.enqueue()
    trt.execution.execute_async_v3.assert_called_once_with(HANDLE)
    trt.execution.execute_async_v3.return_value = False
    with pytest.raises(MeasurementError, match=CASE.id):
        runner.enqueue()
    runner.close()
    runner.close()


def test_compiled_kernels_of_tensorrt_rtx_are_kept_for_the_next_process(
    trt: StandIn, cuda_context: BuildContext
) -> None:
    first = runner_of(cuda_context)
    if not rtx(trt):
        trt.engine.create_execution_context.assert_called_once_with()
        assert "kernels_from_cache" not in first.facts.details
        return
    assert first.facts.details["kernels_from_cache"] is False
    assert trt.runtime_config.cuda_graph_strategy == "CudaGraphStrategy.DISABLED"
    strategy = trt.runtime_config.dynamic_shapes_kernel_specialization_strategy
    assert strategy == "DynamicShapesKernelSpecializationStrategy.EAGER"
    trt.engine.create_execution_context.assert_called_once_with(trt.runtime_config)
    trt.runtime_config.set_runtime_cache.assert_called_once_with(trt.runtime_cache)

    second = runner_of(cuda_context)
    trt.runtime_cache.deserialize.assert_called_once_with(b"compiled kernels")
    assert second.facts.details["kernels_from_cache"] is True

    trt.runtime_cache.deserialize.return_value = False  # another driver, say
    trt.runtime_cache.serialize.return_value = b"other kernels"
    assert runner_of(cuda_context).facts.details["kernels_from_cache"] is False
    trt.runtime_cache.deserialize.reset_mock()
    runner_of(cuda_context)
    trt.runtime_cache.deserialize.assert_called_once_with(b"other kernels")


def test_a_plan_that_does_not_deserialise_is_an_error(trt: StandIn, cuda_context: BuildContext) -> None:
    def nothing(plan: bytes) -> None:
        refuse(trt, "The engine plan file is not compatible with this version of TensorRT")

    trt.runtime.deserialize_cuda_engine.side_effect = nothing
    with pytest.raises(PlanError, match="could not be deserialised: The engine plan file is not compatible"):
        runner_of(cuda_context)


def test_activations_that_do_not_fit_are_out_of_memory(trt: StandIn, cuda_context: BuildContext) -> None:
    def nothing(*config: object) -> None:
        refuse(trt, "Error Code 1: Cuda Runtime (out of memory)")

    trt.engine.create_execution_context.side_effect = nothing
    with pytest.raises(OutOfDeviceMemoryError, match=CASE.id):
        runner_of(cuda_context)


def test_dynamic_shapes_and_unknown_inputs_are_refused(trt: StandIn, cuda_context: BuildContext) -> None:
    trt.engine.get_tensor_shape.side_effect = lambda name: (-1, 4)
    with pytest.raises(BuildError, match=r"'hidden' of .* has the shape \(-1, 4\), which is not known"):
        runner_of(cuda_context)
    trt.engine.get_tensor_shape.side_effect = lambda name: (2, 4)
    with pytest.raises(BuildError, match=r"inputs that nothing fills: \['scale'\]"):
        TensorRTEngineRunner(b"a plan", {}, CASE, cuda_context, ("image",), ("logits", "hidden"))


def test_a_runner_without_a_stream_is_refused(trt: StandIn, context: BuildContext) -> None:
    with pytest.raises(BuildError, match="without a CUDA stream"):
        runner_of(context)
