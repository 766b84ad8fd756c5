"""ONNX Runtime, for real on the CPU."""

from __future__ import annotations

import pytest
import torch

from trtgate.backends import onnxruntime as backend_file
from trtgate.backends import registry
from trtgate.backends.base import BuildContext
from trtgate.case import BackendName, Case, Execution, Precision
from trtgate.errors import BuildError, UnsupportedCaseError
from trtgate.precision.cast import cast_inputs, prepare
from trtgate.workloads.base import Workload

ORT = BackendName.ONNXRUNTIME


@pytest.mark.parametrize(("precision", "tolerance"), [(Precision.FP32, 1e-5), (Precision.FP16, 5e-3)])
def test_it_computes_what_the_module_computes_in_place(
    workload: Workload, warm_context: BuildContext, precision: Precision, tolerance: float
) -> None:
    with registry.get(ORT).build(workload, Case("tiny", ORT, precision, 2), warm_context) as runner:
        addresses = [output.data_ptr() for output in runner.outputs()]
        for seed in (1, 2):
            runner.bind(workload.inputs(2, None, seed))
            runner.enqueue()
            wanted = prepare(workload, precision)(*cast_inputs(workload.inputs(2, None, seed), precision))
            for ours, theirs in zip(runner.outputs(), wanted, strict=True):
                assert ours.dtype == theirs.dtype
                torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        assert [output.data_ptr() for output in runner.outputs()] == addresses


def test_facts_hold_what_shapes_the_time(workload: Workload, warm_context: BuildContext) -> None:
    with registry.get(ORT).build(workload, Case("tiny", ORT, Precision.FP32, 2), warm_context) as runner:
        facts = runner.facts
    assert facts.plan_bytes > 0
    assert 0 < facts.layers < 20
    assert facts.details["session"] == {
        "providers": ["CPUExecutionProvider"],
        "intra_op_threads": torch.get_num_threads(),
        "inter_op_threads": 1,
        "graph_optimisation": "all",
        "force_spinning_stop": True,
    }
    assert (warm_context.cache / "onnxruntime" / facts.details["optimised_model"]).is_file()


def test_closing_twice_does_no_harm(workload: Workload, warm_context: BuildContext) -> None:
    runner = registry.get(ORT).build(workload, Case("tiny", ORT, Precision.FP32, 2), warm_context)
    runner.close()
    runner.close()
    assert runner.outputs() == ()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("tiny", ORT, Precision.BF16, 1), "CPU provider has no bf16 kernels"),
        (Case("tiny", ORT, Precision.FP8, 1), "no fp8 kernels"),
        (Case("tiny", ORT, Precision.TF32, 1), "TF32 exists only on an NVIDIA GPU"),
        (Case("tiny", ORT, Precision.FP32, 1, execution=Execution.GRAPH), "does not tell whether"),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_what_it_cannot_do_is_said_before_it_is_tried(
    workload: Workload, warm_context: BuildContext, case: Case, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    answer = registry.get(ORT).supports(case)
    assert not answer
    assert reason in answer.reason
    with pytest.raises(UnsupportedCaseError, match="onnxruntime"):
        registry.get(ORT).build(workload, case, warm_context)


def test_the_cpu_provider_really_refuses_bf16(workload: Workload, warm_context: BuildContext) -> None:
    case = Case("tiny", ORT, Precision.BF16, 2)
    backend = backend_file.OnnxRuntimeBackend()
    backend.supports = lambda one: backend.availability()  # type: ignore[method-assign]
    with pytest.raises(BuildError, match=rf"ONNX Runtime cannot build {case.id}: .*Use another precision"):
        backend.build(workload, case, warm_context)


def test_on_a_gpu_machine_a_cpu_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_file, "cuda_answer", lambda: backend_file.YES)
    backend_file._cuda_provider.cache_clear()
    answer = registry.get(ORT).supports(Case("tiny", ORT, Precision.FP32, 1))
    backend_file._cuda_provider.cache_clear()
    if answer:
        pytest.skip("this onnxruntime has the CUDA provider")
    assert "it would run on the CPU: this onnxruntime is built without the CUDA provider" in answer.reason
