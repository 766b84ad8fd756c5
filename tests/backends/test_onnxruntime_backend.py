"""ONNX Runtime, for real on the CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from trtgate import artefacts
from trtgate.backends import onnxruntime as backend_file
from trtgate.backends import registry
from trtgate.backends.base import BuildContext, Runner
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


def _outputs(runner: Runner, workload: Workload) -> list[torch.Tensor]:
    runner.bind(workload.inputs(2, None, 3))
    runner.enqueue()
    return [output.clone() for output in runner.outputs()]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_the_optimised_model_is_used_again_and_computes_the_same(
    workload: Workload, context: BuildContext, precision: Precision
) -> None:
    case = Case("tiny", ORT, precision, 2)
    found, files = [], []
    for _ in range(2):
        with registry.get(ORT).build(workload, case, context) as runner:
            found.append((runner.facts.from_cache, runner.facts.layers, _outputs(runner, workload)))
        files.append({path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in _optimised(context)})
    (first, again), outputs = [one[:2] for one in found], [one[2] for one in found]
    assert (first[0], again[0]) == (False, True)
    assert first[1] == again[1]
    assert all(torch.equal(*pair) for pair in zip(*outputs, strict=True))
    assert files[0] == files[1]
    # As one session does it that optimises and runs at once.
    (model,) = (context.cache / "onnx").glob("*.onnx")
    direct = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs = cast_inputs(workload.inputs(2, None, 3), precision)
    fed = {stated.name: value.numpy() for stated, value in zip(direct.get_inputs(), inputs, strict=True)}
    for ours, theirs in zip(outputs[1], direct.run(list(workload.output_names), fed), strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=0)


def test_a_torn_or_edited_optimised_model_is_made_again(workload: Workload, context: BuildContext) -> None:
    case = Case("tiny", ORT, Precision.FP32, 2)
    with registry.get(ORT).build(workload, case, context) as runner:
        right = _outputs(runner, workload)
    (path,) = _optimised(context)
    path.write_bytes(path.read_bytes()[:-100])
    with registry.get(ORT).build(workload, case, context) as runner:
        assert not runner.facts.from_cache
        assert all(torch.equal(*pair) for pair in zip(right, _outputs(runner, workload), strict=True))
    assert artefacts.intact(path)


def _optimised(context: BuildContext) -> list[Path]:
    return sorted((context.cache / "onnxruntime").glob("*.onnx"))


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
