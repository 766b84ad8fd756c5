"""Every TensorRT name that the code uses exists in every release that it claims to work with.

The API surfaces in tests/data/trt_api were read from the bindings of seven releases. A file's uses are read from its
syntax tree: chains below the module (``trt.A.B``), attributes of objects whose TensorRT class is known by the name that
the code gives them, and names in ``hasattr`` and ``getattr``. Calls that TensorRT-RTX alone has live in trt_rtx.py,
which is held against its surfaces only.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TypeGuard

import pytest

from trtgate.backends import trt_rtx, trt_runtime

ROOT = Path(__file__).parents[2]
SURFACES = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "tests/data/trt_api").glob("*.json"))}
RTX = {name: surface for name, surface in SURFACES.items() if name.startswith("tensorrt_rtx")}
RTX_FILES = {"trt_rtx.py"}

# What the code calls its TensorRT objects. A name with two classes would make the check ambiguous: use another.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "runtime": "Runtime",
    "_runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "execution": "IExecutionContext",
    "_execution": "IExecutionContext",
    "inspector": "EngineInspector",
    "runtime_config": "IRuntimeConfig",
    "_runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
    "_runtime_cache": "IRuntimeCache",
    "timing_cache": "ITimingCache",
    "layer": "ILayer",
    "network_tensor": "ITensor",
}
FACTORIES = {
    "create_network": "INetworkDefinition",
    "create_builder_config": "IBuilderConfig",
    "create_engine_inspector": "EngineInspector",
    "create_runtime_config": "IRuntimeConfig",
    "create_runtime_cache": "IRuntimeCache",
    "create_execution_context": "IExecutionContext",
    "deserialize_cuda_engine": "ICudaEngine",
    "get_error": "ParserError",
    "get_layer": "ILayer",
    "get_input": "ITensor",
    "get_output": "ITensor",
}
# How the code calls the module itself: a name, or an attribute that was set to it.
MODULE = ("trt", "_trt")


def files() -> list[Path]:
    """Every file of the library in which the name ``trt`` or one of the known objects occurs as TensorRT's."""
    found = []
    for path in sorted((ROOT / "trtgate").rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        if "trt" in names | arguments or path.name.startswith("trt_"):
            found.append(path)
    return found


def uses(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, class and member of every use; the class is empty for a name of the module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            chain = _chain(node)
            if chain and chain[0] == "trt" and len(chain) > 1:
                if chain[1].startswith("__"):
                    continue
                yield node.lineno, "", chain[1]
                if len(chain) > 2:
                    yield node.lineno, chain[1], chain[2]
            elif owner := _class_of(node.value):
                yield node.lineno, owner, node.attr
        elif isinstance(node, ast.ClassDef):
            # What TensorRT calls on a listener of ours: a method of another name would never be called.
            for base in filter(None, map(_chain, node.bases)):
                if base[0] == "trt":
                    yield from ((part.lineno, base[-1], part.name) for part in node.body if _is_override(part))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            owner = _class_of(node.args[0])
            chain = _chain(node.args[0])
            if owner is None and chain and chain[0] == "trt":
                owner = ".".join(chain[1:])
            if owner is not None and isinstance(node.args[1], ast.Constant):
                yield node.lineno, owner, str(node.args[1].value)


def _is_override(part: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(part, ast.FunctionDef) and not part.name.startswith("_")


def _chain(node: ast.expr) -> list[str] | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    chain = [node.id, *reversed(parts)]
    if chain[0] == "self" and len(chain) > 1:
        chain = chain[1:]
    return ["trt", *chain[1:]] if chain[0] in MODULE else chain


def _class_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return OBJECTS.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return OBJECTS.get(node.attr)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return FACTORIES.get(node.func.attr)
    return None


def missing(source: str, surfaces: dict[str, dict[str, list[str]]]) -> list[str]:
    """What a source uses and a surface lacks, one sentence each."""
    problems = []
    for line, owner, member in uses(ast.parse(source)):
        for name, surface in surfaces.items():
            known = surface if not owner else surface.get(owner, [])
            if member not in known:
                problems.append(f"line {line}: {owner or 'the module'} has no '{member}' in {name}")
    return problems


def test_seven_releases_are_known() -> None:
    assert len(SURFACES) == 7
    assert len(RTX) == 3


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_every_name_exists_in_every_release(path: Path) -> None:
    surfaces = RTX if path.name in RTX_FILES else SURFACES
    assert not missing(path.read_text(), surfaces)


def test_the_files_that_speak_tensorrt_are_found_and_their_uses_seen() -> None:
    names = {path.name for path in files()}
    assert {"trt_build.py", "trt_runner.py", "trt_runtime.py", "trt_rtx.py", "torch_tensorrt_module.py"} <= names
    backends = ROOT / "trtgate/backends"
    used = {
        (owner, member) for path in backends.glob("trt_*.py") for _, owner, member in uses(ast.parse(path.read_text()))
    }
    assert {
        ("", "Builder"),
        ("BuilderFlag", "TF32"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("Builder", "build_serialized_network"),
        ("INetworkDefinition", "num_layers"),
        ("IBuilderConfig", "profiling_verbosity"),
        ("IBuilderConfig", "set_compute_capability"),
        ("OnnxParser", "parse_from_file"),
        ("ParserError", "node_operator"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "device_memory_size_v2"),
        ("IExecutionContext", "execute_async_v3"),
        ("EngineInspector", "get_engine_information"),
        ("IRuntimeConfig", "set_runtime_cache"),
        ("IRuntimeCache", "serialize"),
        ("", "Runtime"),
        ("TensorIOMode", "INPUT"),
        ("ILayer", "num_outputs"),
        ("ITensor", "name"),
        ("IDebugListener", "process_debug_tensor"),
    } <= used


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", "BuilderFlag has no 'FP16' in tensorrt-11.0.0.114"),
        ("builder.build_engine_with_config(network, config)", "'build_engine_with_config' in tensorrt_rtx-1.4.0.76"),
        ("engine.device_memory_size", "'device_memory_size' in tensorrt-11"),
        ("self._engine.weight_streaming_budget", "'weight_streaming_budget' in tensorrt-11"),
        ("config.num_compute_capabilities = 1", "'num_compute_capabilities' in tensorrt-10.15.1.29"),
        ("engine.create_runtime_config().set_runtime_cache(x)", "'set_runtime_cache' in tensorrt-10.15.1.29"),
        ("trt.CudaGraphStrategy", "the module has no 'CudaGraphStrategy' in tensorrt-10.15.1.29"),
        ("hasattr(execution, 'no_such_thing')", "IExecutionContext has no 'no_such_thing'"),
        ("self._trt.Runtim(logger)", "the module has no 'Runtim'"),
        ("mode == self._trt.TensorIOMode.INPUTS", "TensorIOMode has no 'INPUTS'"),
        ("hasattr(self._trt, 'NoSuchThing')", "the module has no 'NoSuchThing'"),
        ("range(layer.output_count)", "ILayer has no 'output_count'"),
        ("network.get_layer(0).output_count", "ILayer has no 'output_count'"),
        ("layer.precision_is_set", "ILayer has no 'precision_is_set' in tensorrt-11"),
        ("network.get_output(0).title", "ITensor has no 'title'"),
        ("layer.get_output(0).title", "ITensor has no 'title'"),
        ("network_tensor.title", "ITensor has no 'title'"),
        ("class Ours(trt.IDebugListener):\n def on_tensor(self): ...", "IDebugListener has no 'on_tensor'"),
    ],
)
def test_a_name_that_a_release_lacks_is_caught(source: str, problem: str) -> None:
    assert any(problem in found for found in missing(source, SURFACES))


def test_builder_configurations_of_both_flavours_are_told_apart() -> None:
    for name, surface in SURFACES.items():
        config = SimpleNamespace(**dict.fromkeys(surface["IBuilderConfig"]))
        runtime_config = SimpleNamespace(**dict.fromkeys(surface["IRuntimeConfig"]))
        assert trt_rtx.available(config) is (name in RTX)
        assert trt_rtx.has_runtime_config(runtime_config) is (name in RTX)


@pytest.mark.skipif(not trt_runtime.answer(), reason=trt_runtime.answer().reason or "TensorRT is here")
def test_the_installed_release_has_every_name_too() -> None:
    trt = trt_runtime.load()
    flavour, version = trt_runtime.versions()
    surface = {name: dir(getattr(trt, name)) for name in dir(trt)}
    for path in files():
        if path.name in RTX_FILES and flavour != "tensorrt_rtx":
            continue
        assert not missing(path.read_text(), {f"{flavour} {version}": surface})
