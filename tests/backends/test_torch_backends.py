"""Eager PyTorch and Inductor, for real on the CPU."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
import torch

from trtgate.backends import inductor, registry
from trtgate.backends.base import BuildContext
from trtgate.backends.module_runner import flatten
from trtgate.case import BackendName, Case, Execution, Precision
from trtgate.errors import BuildError, CaptureError, UnknownValueError, UnsupportedCaseError
from trtgate.precision.cast import cast_inputs, prepare
from trtgate.workloads.base import Workload

EAGER, INDUCTOR = BackendName.EAGER, BackendName.INDUCTOR
needs_compiler = pytest.mark.skipif(
    not registry.get(INDUCTOR).availability(), reason=registry.get(INDUCTOR).availability().reason or "here"
)


def expected(workload: Workload, precision: Precision, batch: int, seed: int) -> tuple[torch.Tensor, ...]:
    return flatten(prepare(workload, precision)(*cast_inputs(workload.inputs(batch, None, seed), precision)))


def test_every_backend_is_found_by_name_and_is_one_object() -> None:
    for name in registry.names():
        assert registry.get(name).name == name
        assert registry.get(name) is registry.get(str(name))
    assert registry.names() == tuple(BackendName)
    with pytest.raises(UnknownValueError, match="Did you mean 'eager'"):
        registry.get("eagre")


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_eager_computes_what_the_module_computes(
    workload: Workload, context: BuildContext, precision: Precision
) -> None:
    with registry.get(EAGER).build(workload, Case("tiny", EAGER, precision, 2), context) as runner:
        for seed in (1, 2):
            runner.bind(workload.inputs(2, None, seed))
            runner.enqueue()
            for ours, theirs in zip(runner.outputs(), expected(workload, precision, 2, seed), strict=True):
                assert ours.dtype == theirs.dtype
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        assert not runner.facts.captured
        assert all(output.is_inference() for output in runner.outputs())


def test_closing_twice_does_no_harm_and_frees_the_module(workload: Workload, context: BuildContext) -> None:
    modules: list[weakref.ref[torch.nn.Module]] = []
    make = workload.module

    def module() -> torch.nn.Module:
        made = make()
        modules.append(weakref.ref(made))
        return made

    workload.module = module  # type: ignore[method-assign]
    runner = registry.get(EAGER).build(workload, Case("tiny", EAGER, Precision.FP32, 2), context)
    runner.enqueue()
    runner.close()
    runner.close()
    gc.collect()
    assert modules
    assert all(reference() is None for reference in modules)
    assert runner.outputs() == ()


@pytest.mark.parametrize("backend", [EAGER, INDUCTOR, BackendName.TORCH_TENSORRT])
def test_what_needs_a_gpu_is_refused_without_one(
    workload: Workload, context: BuildContext, backend: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    one = registry.get(backend)
    graph = one.supports(Case("tiny", backend, Precision.FP32, 1, execution=Execution.GRAPH))
    tf32 = one.supports(Case("tiny", backend, Precision.TF32, 1))
    assert not tf32
    assert "TF32 exists only on an NVIDIA GPU" in tf32.reason
    if backend is not BackendName.TORCH_TENSORRT:
        assert "A CUDA graph needs an NVIDIA GPU" in graph.reason
        with pytest.raises(UnsupportedCaseError, match=r"cannot do tiny-.*-graph: A CUDA graph"):
            one.build(workload, Case("tiny", backend, Precision.FP32, 1, execution=Execution.GRAPH), context)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_pytorch_only_imitates_quantised_precisions(precision: Precision) -> None:
    for backend in (EAGER, INDUCTOR):
        answer = registry.get(backend).supports(Case("tiny", backend, precision, 1))
        assert answer.reason.startswith(f"PyTorch only imitates {precision}")


@needs_compiler
@pytest.mark.slow
def test_several_compiled_models_live_at_once_share_the_cache_and_are_never_compiled_again(
    workload: Workload, context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    backend = registry.get(INDUCTOR)
    # Models of one class share the code of their forward(), and Dynamo counts recompilations by code object.
    with torch._dynamo.config.patch(recompile_limit=1):
        runners = [backend.build(workload, Case("tiny", INDUCTOR, Precision.FP32, 2), context) for _ in range(3)]
    assert [runner.facts.from_cache for runner in runners] == [False, True, True]
    assert any((context.cache / "inductor").iterdir())
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed, runner in enumerate(runners):
            runner.bind(workload.inputs(2, None, seed))
            runner.enqueue()
    for seed, runner in enumerate(runners):
        for ours, theirs in zip(runner.outputs(), expected(workload, Precision.FP32, 2, seed), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        runner.close()


def test_a_model_that_breaks_the_graph_is_a_build_error(workload: Workload, context: BuildContext) -> None:
    class Breaks(torch.nn.Module):
        def forward(self, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return image

    workload.module = lambda: Breaks().eval()  # type: ignore[method-assign]
    case = Case("tiny", INDUCTOR, Precision.FP32, 2)
    with pytest.raises(BuildError, match=rf"failed on {case.id}: Call to `torch._dynamo.graph_break.*Set TORCH_LOGS"):
        registry.get(INDUCTOR).build(workload, case, context)


def test_what_inductor_raised_inside_is_the_reason_of_the_build_error(
    workload: Workload, context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.lowering import lowerings

    def refuses(*_: object, **__: object) -> None:
        raise IndexError("there is no such lane\nand more of it")

    monkeypatch.setitem(lowerings, torch.ops.aten.relu.default, refuses)
    case = Case("tiny", INDUCTOR, Precision.FP32, 2)
    with pytest.raises(BuildError, match=rf"{case.id}: LoweringException: IndexError: there is no such lane\. Set "):
        registry.get(INDUCTOR).build(workload, case, context)


def test_two_functions_never_share_a_code_object() -> None:
    module = torch.nn.Identity()
    one, two = inductor._own_function(module), inductor._own_function(module)
    assert one.__code__ is not two.__code__
    assert one.__code__ != two.__code__
    assert one(torch.ones(1)).item() == 1.0


def test_a_graph_that_inductor_skipped_or_did_not_record_is_a_capture_error() -> None:
    counts = inductor._Counts()
    with pytest.raises(CaptureError, match=r"recorded no CUDA graph\. Set TORCH_LOGS=cudagraphs"):
        inductor._require_recorded("case", counts, [])
    inductor._require_recorded("case", counts, [object()])
    torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] += 1
    with pytest.raises(CaptureError, match="skipped CUDA graphs 1 times"):
        inductor._require_recorded("case", counts, [object()])


def test_the_private_parts_of_inductor_that_are_used_exist() -> None:
    import inspect

    from torch._inductor import cudagraph_trees

    assert {"device_index", "create_if_none_exists"} <= set(inspect.signature(cudagraph_trees.get_manager).parameters)
    source = inspect.getsource(cudagraph_trees)
    assert "self.roots: dict[FunctionID, list[CUDAGraphNode]]" in source
    assert "self.children: dict[FunctionID, list[CUDAGraphNode]]" in source
    assert 'counters["inductor"]["cudagraph_recorded_non_static_inputs"]' in source


def test_flattening_keeps_order_and_drops_what_is_no_tensor() -> None:
    one, two, three = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert flatten({"a": (one, 5, [two]), "b": None, "c": three}) == (one, two, three)
    assert flatten(one) == (one,)
