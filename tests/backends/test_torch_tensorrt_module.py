"""Torch-TensorRT needs a GPU to import. What holds without one: coverage of a graph, and the names that are used."""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from trtgate import artefacts
from trtgate.backends import torch_tensorrt_module as module_file
from trtgate.backends.base import BuildContext
from trtgate.backends.plan_cache import PlanCache
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import BuildError
from trtgate.workloads.base import Workload


class Engine(torch.nn.Module):
    """Stands where the package puts its engine module, with the attributes that are read."""

    def __init__(self, plan: bytes) -> None:
        super().__init__()
        self.serialized_engine = plan

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value


def partitioned() -> torch.fx.GraphModule:
    """A graph as the package leaves it: engine, PyTorch subgraph, engine."""

    def fallback(value: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.cumsum.default(torch.ops.aten.sort.default(value)[0], 0)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._run_on_acc_0 = Engine(b"12345")
            self._run_on_gpu_1 = torch.fx.symbolic_trace(fallback)
            self._run_on_acc_2 = Engine(b"123")

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return self._run_on_acc_2(self._run_on_gpu_1(self._run_on_acc_0(value)))

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module: torch.nn.Module, name: str) -> bool:
            return True

    root = Whole()
    return torch.fx.GraphModule(root, Tracer().trace(root))


def test_operators_that_fell_back_to_pytorch_are_named() -> None:
    found = module_file.coverage(partitioned(), Counter({"aten.relu.default": 2, "aten.convolution.default": 1}))
    assert found == {
        "tensorrt_blocks": 2,
        "engine_bytes": 8,
        "tensorrt_operators": {"aten.convolution.default": 1, "aten.relu.default": 2},
        "pytorch_operators": {"aten.cumsum.default": 1, "aten.sort.default": 1},
    }


def test_a_graph_that_was_not_converted_at_all_has_no_block() -> None:
    found = module_file.coverage(torch.fx.symbolic_trace(torch.nn.ReLU()), Counter())
    assert found["tensorrt_blocks"] == 0
    assert found["pytorch_operators"]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.TF32])
def test_tf32_is_off_for_every_other_precision(precision: Precision) -> None:
    assert module_file._settings(precision)["disable_tf32"] is (precision is not Precision.TF32)


def test_an_option_that_a_release_would_swallow_is_refused() -> None:
    def compile(program: object, *, min_block_size: int = 5, **kwargs: object) -> None: ...  # noqa: A001

    module_file._require_options(compile, {"min_block_size": 1})
    with pytest.raises(BuildError, match=r"does not take the options \['disable_tf32'\], which it would ignore"):
        module_file._require_options(compile, {"min_block_size": 1, "disable_tf32": True})


PACKAGE = importlib.util.find_spec("torch_tensorrt")


@pytest.mark.skipif(PACKAGE is None, reason="torch_tensorrt is not installed")
class TestNamesInTheInstalledPackage:
    """Read from its source, since it cannot be imported without a GPU."""

    @staticmethod
    def tree(relative: str) -> ast.Module:
        assert PACKAGE is not None
        assert PACKAGE.origin is not None
        return ast.parse((Path(PACKAGE.origin).parent / relative).read_text())

    def function(self, relative: str, name: str) -> ast.FunctionDef:
        return next(
            node for node in ast.walk(self.tree(relative)) if isinstance(node, ast.FunctionDef) and node.name == name
        )

    def test_compile_takes_every_option(self) -> None:
        parameters = self.function("dynamo/_compiler.py", "compile").args
        names = {argument.arg for argument in (*parameters.args, *parameters.kwonlyargs)}
        assert {"arg_inputs", "timing_cache_path", *module_file._settings(Precision.FP32)} <= names

    def test_save_takes_every_option(self) -> None:
        parameters = self.function("_compile.py", "save").args
        names = {argument.arg for argument in (*parameters.args, *parameters.kwonlyargs)}
        assert {"output_format", "arg_inputs"} <= names

    def test_the_interpreter_has_the_observer_and_the_configuration(self) -> None:
        tree = self.tree("dynamo/conversion/_TRTInterpreter.py")
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert "TRT_INTERPRETER_CALL_PRE_OBSERVER" in names
        assert "_populate_trt_builder_config" in functions
        assert "add" in {
            node.name for node in ast.walk(self.tree("dynamo/observer.py")) if isinstance(node, ast.FunctionDef)
        }

    def test_engine_modules_have_what_is_read_and_set(self) -> None:
        tree = self.tree("dynamo/runtime/_TorchTensorRTModule.py")
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert {
            "serialized_engine",
            "use_pre_allocated_outputs",
            "set_output_tensors_as_unowned",
            "get_engine_layer_info",
        } <= attributes


@pytest.fixture
def looked_up(workload: Workload, context: BuildContext, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The key that a compiled module is looked up by now."""

    class LookedUpError(Exception):
        """Ends the build at the look-up: what follows needs a GPU."""

    keys = []

    def load(cache: PlanCache, key: Mapping[str, object]) -> None:
        keys.append(artefacts.key(**key))
        raise LookedUpError

    monkeypatch.setattr(PlanCache, "load", load)
    case = Case("tiny", BackendName.TORCH_TENSORRT, Precision.FP32, 2)

    def asked() -> str:
        with pytest.raises(LookedUpError):
            module_file.compiled(workload, case, context, (), "2.14.0")
        return keys[-1]

    return asked


def test_the_variable_that_overrules_tf32_is_part_of_the_key(
    looked_up: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for value in (None, "0", "1"):
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        if value is not None:
            monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
        keys.append(looked_up())
    assert len(set(keys)) == 3


def test_the_code_that_casts_and_quantises_is_part_of_the_key(
    looked_up: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = looked_up()
    assert looked_up() == before
    monkeypatch.setattr(module_file.precision, "code", lambda: ("the digest of a mended file",))
    assert looked_up() != before
