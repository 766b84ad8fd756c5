"""Plans, built for real without a GPU by TensorRT-RTX where it is installed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from trtgate import artefacts
from trtgate.backends import plan_cache, tensorrt_engine, trt_build, trt_installed, trt_runtime
from trtgate.backends.base import BuildContext
from trtgate.backends.plan_cache import PlanCacheWarning
from trtgate.backends.tensorrt_engine import build_plan, plan_of
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import BuildError, ParserError, UnsupportedCaseError
from trtgate.workloads.base import Workload

pytestmark = pytest.mark.skipif(
    not tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability(),
    reason=tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability().reason or "available",
)

FP32 = Precision.FP32


def test_a_workload_becomes_a_plan_that_is_cached(workload: Workload, context: BuildContext, stages: object) -> None:
    case = Case("tiny", BackendName.TENSORRT_ENGINE, FP32, 2)
    first = build_plan(workload, case, context, ahead_of_time=True)
    assert stages.names == ["export", "load", "parse", "build"]
    stages.names.clear()
    second = build_plan(workload, case, context, ahead_of_time=True)
    assert stages.names == ["load"]
    assert (first.from_cache, second.from_cache) == (False, True)
    assert first.digest == second.digest
    assert first.bytes == second.path.stat().st_size > 1000
    assert second.details["network_layers"] > 0


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16])
def test_every_floating_precision_builds_strongly_typed(
    workload: Workload, warm_context: BuildContext, precision: Precision
) -> None:
    case = Case("tiny", BackendName.TENSORRT_ENGINE, precision, 2)
    log: list[str] = []
    plan = build_plan(workload, case, warm_context, ahead_of_time=True, verbose_log=log)
    assert plan.details["tf32"] is (precision is Precision.TF32)
    assert plan.key["flags"]["tf32"] is (precision is Precision.TF32)
    text = "\n".join(log)
    wanted = {Precision.FP16: "Half", Precision.BF16: "BFloat16"}.get(precision, "Float")
    assert f"{wanted}(" in text, "the verbose log names the datatype of every layer"
    assert "[ONNX Layer: " in text, "detailed verbosity names the ONNX nodes of every layer"


def test_the_same_bytes_under_another_precision_are_another_plan(
    context: BuildContext, conv_relu: Callable[..., Path]
) -> None:
    path = conv_relu()
    one = plan_of(path, Precision.FP32, "case", context, ahead_of_time=True)
    other = plan_of(path, Precision.TF32, "case", context, ahead_of_time=True)
    assert one.key["onnx_sha256"] == other.key["onnx_sha256"]
    assert one.path != other.path
    assert not other.from_cache


def test_a_verbose_log_is_of_a_build_that_took_place(context: BuildContext, conv_relu: Callable[..., Path]) -> None:
    path = conv_relu()
    plan_of(path, FP32, "case", context, ahead_of_time=True)
    log: list[str] = []
    assert not plan_of(path, FP32, "case", context, ahead_of_time=True, verbose_log=log).from_cache
    assert log


def test_a_truncated_plan_is_built_again_aloud(context: BuildContext, conv_relu: Callable[..., Path]) -> None:
    path = conv_relu()
    first = plan_of(path, FP32, "case", context, ahead_of_time=True)
    first.path.write_bytes(first.content[: first.bytes // 2])
    with pytest.warns(PlanCacheWarning, match="truncated or altered"):
        again = plan_of(path, FP32, "case", context, ahead_of_time=True)
    assert not again.from_cache
    assert plan_of(path, FP32, "case", context, ahead_of_time=True).from_cache


def test_another_model_under_the_same_name_is_another_plan(
    context: BuildContext, conv_relu: Callable[..., Path]
) -> None:
    path = conv_relu()
    first = plan_of(path, FP32, "case", context, ahead_of_time=True)
    path.write_bytes(conv_relu(channels=16).read_bytes())
    second = plan_of(path, FP32, "case", context, ahead_of_time=True)
    assert not second.from_cache
    assert second.digest != first.digest


@pytest.mark.parametrize("changed", ["flavour", "version", "gpu", "driver"])
def test_another_stack_is_another_key(
    conv_relu: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    path = conv_relu()
    gpu = {"gpu": "H100", "compute_capability": "sm_90", "driver": "580"}
    monkeypatch.setattr(trt_build, "gpu_key", lambda: dict(gpu))
    monkeypatch.setattr(trt_runtime, "versions", lambda: ("tensorrt", "10.15.1.29"))
    before = trt_build.build_key(path, FP32, ahead_of_time=False)
    if changed in gpu:
        monkeypatch.setattr(trt_build, "gpu_key", lambda: {**gpu, changed: "other"})
    else:
        other = ("tensorrt_rtx", "10.15.1.29") if changed == "flavour" else ("tensorrt", "10.16.1.11")
        monkeypatch.setattr(trt_runtime, "versions", lambda: other)
    assert trt_build.build_key(path, FP32, ahead_of_time=False) != before


def test_the_variable_that_overrules_tf32_is_part_of_the_key(
    conv_relu: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, keys = conv_relu(), []
    for value in (None, "0", "1"):
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        if value is not None:
            monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
        keys.append(artefacts.key(**trt_build.build_key(path, FP32, ahead_of_time=True)))
    assert len(set(keys)) == 3


def test_the_parser_names_each_node_and_operator_that_it_refuses(
    context: BuildContext, conv_relu: Callable[..., Path]
) -> None:
    with pytest.raises(ParserError) as caught:
        plan_of(conv_relu("Frobnicate", "acme"), FP32, "net-tensorrt_engine-fp32-b2-graph", context, ahead_of_time=True)
    assert "refused net-tensorrt_engine-fp32-b2-graph: node 'stem/act', operator Frobnicate: " in str(caught.value)
    assert "not supported" in caught.value.problem
    assert caught.value.fix == "Rewrite these operators in the model, or run this workload on another backend."


def test_a_file_that_is_no_onnx_is_refused(context: BuildContext, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is not a protobuf message")
    with pytest.raises(ParserError, match=r"refused case: it found no model in broken\.onnx"):
        plan_of(path, FP32, "case", context, ahead_of_time=True)


def test_a_model_with_mixed_types_is_refused_by_strong_typing(context: BuildContext, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"], name="mixed")],
        "mixed",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 2]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT16, [2, 2]),
        ],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2, 2])],
    )
    path = tmp_path / "mixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    with pytest.raises((ParserError, BuildError), match="mixed"):
        plan_of(path, FP32, "mixed", context, ahead_of_time=True)


def test_a_build_that_returns_nothing_says_what_tensorrt_logged(
    context: BuildContext, conv_relu: Callable[..., Path]
) -> None:
    if trt_build.cuda_answer():
        pytest.skip("with a GPU this build succeeds")
    with pytest.raises(BuildError, match=r"TensorRT built nothing for case: .*(Cuda|CUDA|device)"):
        plan_of(conv_relu(), FP32, "case", context, ahead_of_time=False)
    assert not list(plan_cache.of_plans(context.cache).folder.glob("*"))


def test_parsing_and_building_log_no_warning_of_ours(context: BuildContext, conv_relu: Callable[..., Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_of(conv_relu(), FP32, "case", context, ahead_of_time=True)


def test_ahead_of_time_building_needs_tensorrt_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_installed, "find", lambda: trt_installed.Installed("tensorrt", "10.15.1.29"))
    answer = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
    assert answer.reason == "tensorrt 10.15.1.29 needs a GPU to build; only TensorRT-RTX builds without one."


def test_datatypes_of_engines_are_those_of_torch() -> None:
    trt = trt_runtime.load()
    assert str(trt_runtime.torch_dtype(trt.DataType.BF16)) == "torch.bfloat16"
    assert str(trt_runtime.torch_dtype(trt.DataType.FP8)) == "torch.float8_e4m3fn"
    with pytest.raises(trt_runtime.PlanError, match="INT4"):
        trt_runtime.torch_dtype(trt.DataType.INT4)


def test_a_case_that_a_gpu_cannot_do_is_refused(workload: Workload, context: BuildContext) -> None:
    backend = tensorrt_engine.TensorRTEngineBackend()
    backend.supports = lambda case: trt_build.cuda_answer().__class__(False, "no.")  # type: ignore[method-assign]
    backend.availability = lambda: trt_build.cuda_answer().__class__(True)  # type: ignore[method-assign]
    with pytest.raises(UnsupportedCaseError, match="tensorrt_engine"):
        backend.build(workload, Case("tiny", BackendName.TENSORRT_ENGINE, FP32, 1), context)


def test_a_plan_is_plain_data(context: BuildContext, conv_relu: Callable[..., Path]) -> None:
    plan = plan_of(conv_relu(), FP32, "case", context, ahead_of_time=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.digest = "other"
