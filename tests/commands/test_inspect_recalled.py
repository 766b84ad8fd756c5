"""A case that was inspected on a GPU is recalled, as its plan in the cache stands. The GPU is simulated as far as torch
and NVML name it, and so are its builder and its inspector; what is between them is real."""

import json
import sys
from functools import partial

import onnx
import pytest
import torch
from seeded_workload import SeededWorkload
from simulated_nvml import Gpu, Nvml

from trtgate.backends import gpu_files, plan_cache, trt_build, trt_installed
from trtgate.backends.base import YES, Runner
from trtgate.backends.trt_build import Built
from trtgate.cli import main
from trtgate.commands import inspect
from trtgate.measure import inspect_case, optimisation_run
from trtgate.workloads import registry as workloads

MICRO = "mlp-tensorrt_engine-fp16-b1-stream"
CASE = "simple_cnn-tensorrt_engine-fp16-b1-graph"


def layers_of(onnx_path):
    """What the inspector would print of an engine that has one layer a node."""
    tensor = {"Dimensions": [1, 64], "Format/Datatype": "Half"}
    nodes = onnx.load(onnx_path, load_external_data=False).graph.node
    layers = [
        {
            "Name": f"{node.name}_myl0_{index}",
            "LayerType": "gemm",
            "Inputs": [{"Name": "x", **tensor}],
            "Outputs": [{"Name": "y", **tensor}],
            "Metadata": f"[ONNX Layer: {node.name}]",
        }
        for index, node in enumerate(nodes)
    ]
    return json.dumps({"Layers": layers})


class Engine(Runner):
    def __init__(self, plan):
        super().__init__()
        self.facts.details["plan"] = {"digest": plan.digest}
        self.text = plan.content.decode()

    def inspector_json(self):
        return self.text

    def layer_times_ms(self, repeats):
        return {"layer": 0.5}

    def close(self):
        pass

    bind = enqueue = outputs = close


class Backend:
    """Builds the plan as the real one does, and loads no engine."""

    def build(self, workload, case, context):
        return Engine(inspect_case.tensorrt_engine.build_plan(workload, case, context, ahead_of_time=False))


class Small(SeededWorkload):
    """In simple_cnn's place, whose training takes ten seconds."""

    name = "simple_cnn"
    input_names = ("image",)
    fingerprint = "small 1"
    make = partial(torch.nn.Linear, 64, 64)
    shape = (64,)


@pytest.fixture
def builds(monkeypatch):
    """A GPU; returns the list of what was built on it."""
    gpu, built = Gpu(), []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: True)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(gpu))
    for module in (trt_build, inspect_case, optimisation_run):
        monkeypatch.setattr(module, "cuda_answer", lambda: YES)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu.capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: gpu.name)

    def build(onnx_path, precision, what, stopwatch, **options):
        built.append(what)
        return Built(layers_of(onnx_path).encode(), {})

    monkeypatch.setattr(trt_build, "build", build)
    monkeypatch.setattr("trtgate.backends.trt_runtime.load", lambda: None)
    monkeypatch.setattr("trtgate.backends.trt_inspect.inspector_json", lambda content, what: content.decode())
    monkeypatch.setattr(inspect_case.registry, "get", lambda name: Backend())
    monkeypatch.setattr(workloads, "get", lambda name, **source: Small())
    return built


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    return tmp_path


@pytest.fixture
def without_torch(monkeypatch):
    """From when it is called on, whatever needs torch is an error."""

    def begin():
        monkeypatch.setattr(inspect, "_inspect_anew", lambda *arguments: pytest.fail("it was inspected anew"))

    return begin


def told(capsys, folder, case, *options):
    assert main(["inspect", case, "--cache-dir", str(folder), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("case", [MICRO, CASE])
def test_a_case_that_was_inspected_on_a_gpu_is_recalled(builds, folder, capsys, without_torch, case):
    first = told(capsys, folder, case)
    assert (first["facts"]["origin"], first.pop("recalled"), len(builds)) == ("inspector", False, 1)
    (plan,) = plan_cache.of_plans(folder).folder.glob("*.plan")
    assert first["census"]["plan_digest"].startswith(plan.stem.split("-")[1])
    without_torch()
    second = told(capsys, folder, case)
    assert second.pop("recalled")
    assert first == second


def test_a_plan_that_was_built_again_is_asked_again(builds, folder, capsys):
    told(capsys, folder, MICRO)
    plans = plan_cache.of_plans(folder)
    (sidecar,), (plan,) = plans.folder.glob("*.json"), plans.folder.glob("*.plan")
    document = json.loads(plan.read_bytes())
    document["Layers"][0]["TacticName"] = "another"
    plans.store(json.loads(sidecar.read_bytes())["key"], json.dumps(document).encode(), {})
    second = told(capsys, folder, MICRO)
    assert (second["recalled"], second["census"]["layers"][0]["tactic"]) == (False, "another")
    assert told(capsys, folder, MICRO)["recalled"]
    assert len(builds) == 1


def test_another_driver_or_version_is_built_and_asked_again(builds, folder, capsys, monkeypatch):
    told(capsys, folder, MICRO)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(Gpu(), driver="590.1"))
    assert not told(capsys, folder, MICRO)["recalled"]
    assert told(capsys, folder, MICRO)["recalled"]
    installed = trt_installed.Installed("tensorrt", "11.0.0.1")
    monkeypatch.setattr(trt_installed, "find", lambda: installed)
    assert not told(capsys, folder, MICRO)["recalled"]
    assert len(builds) == 3


def test_where_nvml_cannot_tell_the_gpu_nothing_is_recalled(builds, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(Gpu(), Gpu("NVIDIA T400", (7, 5))))
    assert not told(capsys, folder, MICRO)["recalled"]
    assert not told(capsys, folder, MICRO)["recalled"]
    assert not (folder / "censuses").exists()


def test_the_inspectors_own_json_and_a_profile_take_the_engine(builds, folder, capsys):
    told(capsys, folder, CASE)
    raw = folder / "layers.json"
    assert not told(capsys, folder, CASE, "--raw", str(raw))["recalled"]
    assert raw.read_bytes() == next(plan_cache.of_plans(folder).folder.glob("*.plan")).read_bytes()
    profiled = told(capsys, folder, CASE, "--profile", "3")
    assert (profiled["recalled"], profiled["layer_ms"]) == (False, {"layer": 0.5})
    assert told(capsys, folder, CASE)["recalled"]
