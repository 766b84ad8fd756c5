"""A census that is recalled without a build belongs to the very engine that a build would make."""

import dataclasses
import os
import sys
from types import SimpleNamespace

import pytest
from engine_samples import logged
from simulated_nvml import Gpu, Nvml

from trtgate.backends import gpu_files, plan_cache, plan_target
from trtgate.backends.gpu_files import gpu_possible
from trtgate.case import Case
from trtgate.measure import kept_census
from trtgate.measure.inspection import HeldPlan, Inspected
from trtgate.policy.calibration import CalibrationSettings

CASE = Case.parse("vit_b_16-tensorrt_engine-fp16-b2-stream")
CALIBRATION = CalibrationSettings()
KEY = {"onnx_sha256": "ab"}
H100 = {"gpu": "NVIDIA H100 80GB HBM3", "compute_capability": "sm_90", "driver": "580.159.04"}
SKIPPED = ({"name": "node_conv2d", "operator": "Conv", "note": "few channels", "by_rule": True},)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: False)
    return plan_target.AHEAD_OF_TIME


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: True)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(Gpu()))
    return H100


@pytest.fixture(params=["without_gpu", "with_gpu"])
def target(request):
    """What a plan is for here: without a GPU, and with one that NVML names."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def inspected(tmp_path, target):
    """What an inspection found of a plan that it left in the cache."""
    entry = plan_cache.of_plans(tmp_path).store(KEY, b"a serialised engine", {})
    origin = "build_log" if target is plan_target.AHEAD_OF_TIME else "inspector"
    census = logged("vit_b_16_fp16_rtx_1.6").model_copy(update={"origin": origin, "plan_digest": entry.digest})
    return Inspected(census, skipped=SKIPPED, plan=HeldPlan(entry.path, target))


@pytest.fixture
def kept(tmp_path, inspected):
    kept_census.keep(CASE, tmp_path, CALIBRATION, inspected)
    return tmp_path


def recalled(folder, case=CASE, calibration=CALIBRATION):
    return kept_census.recall(case, folder, calibration)


def test_what_was_kept_is_recalled_and_nothing_else(kept, inspected):
    assert recalled(kept) == Inspected(inspected.census, skipped=SKIPPED, recalled=True)
    assert recalled(kept, Case.parse("vit_b_16-tensorrt_engine-fp16-b1-stream")) is None
    assert recalled(kept, calibration=CalibrationSettings(seed=1)) is None
    assert recalled(kept / "elsewhere") is None


def test_a_captured_graph_has_the_layers_of_its_engine(kept, inspected):
    graph = Case.parse("vit_b_16-tensorrt_engine-fp16-b2-graph")
    assert recalled(kept, graph) == Inspected(inspected.census, skipped=SKIPPED, recalled=True)


@pytest.mark.parametrize("place", ["workloads/vit_b_16/weights.npz.sha256", "datasets/MNIST/raw"])
@pytest.mark.parametrize("what", ["text", "time"])
def test_a_file_that_is_replaced_makes_it_anew(tmp_path, inspected, place, what):
    """By one of the same size: its time tells, or of weights the digest that lies beside them."""
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text("ab")
    before = path.stat()
    kept_census.keep(CASE, tmp_path, CALIBRATION, inspected)
    assert recalled(tmp_path) is not None
    path.write_text("cd" if what == "text" else "ab")
    later = before.st_mtime_ns + (10**9 if what == "time" else 0)
    os.utime(path, ns=(before.st_atime_ns, later))
    digested = path.suffix == ".sha256"
    assert (recalled(tmp_path) is None) == (what == "time" or digested)


def test_only_the_files_of_its_own_workload_make_it_anew(kept):
    for workload in ("resnet18", CASE.workload):
        assert recalled(kept) is not None
        (kept / "workloads" / workload).mkdir(parents=True)
        (kept / "workloads" / workload / "weights.npz").touch()
    assert recalled(kept) is None


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("_source_digest", lambda: "another source"),
        ("_version", lambda package: "9.9" if package == "torch" else None),
        ("trt_installed", SimpleNamespace(versions=lambda: ("tensorrt_rtx", "1.7.1.116"))),
        ("trt_installed", SimpleNamespace(versions=lambda: ("tensorrt", "1.6.1.120"))),
        ("platform", SimpleNamespace(machine=lambda: "aarch64", python_version=lambda: "3.12.3")),
    ],
)
def test_whatever_shapes_the_engine_makes_it_anew(kept, monkeypatch, name, changed):
    monkeypatch.setattr(kept_census, name, changed)
    assert recalled(kept) is None


def test_the_variable_that_overrules_tf32_makes_it_anew(kept, monkeypatch):
    assert recalled(kept) is not None
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert recalled(kept) is None


@pytest.mark.parametrize(
    "nvml",
    [
        Nvml(Gpu(name="NVIDIA H200")),
        Nvml(Gpu(capability=(8, 9))),
        Nvml(Gpu(), driver="581.1"),
        Nvml(Gpu(), Gpu(name="NVIDIA T400", capability=(7, 5))),
        Nvml(Gpu(sliced=True)),
        Nvml(error=Nvml.NVML_ERROR_DRIVER_NOT_LOADED),
    ],
    ids=["name", "capability", "driver", "which of two", "slice", "no driver"],
)
@pytest.mark.parametrize("target", ["with_gpu"], indirect=True)
def test_another_gpu_makes_it_anew(monkeypatch, kept, nvml):
    assert recalled(kept) is not None
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert recalled(kept) is None


def test_a_gpu_that_appears_or_is_hidden_makes_it_anew(kept, target, monkeypatch):
    assert recalled(kept) is not None
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: True)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(Gpu()))
    if target == H100:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert recalled(kept) is None


def test_a_plan_that_was_built_again_since_makes_it_anew(kept):
    plan_cache.of_plans(kept).store(KEY, b"an engine of other layers", {})
    assert recalled(kept) is None


@pytest.mark.parametrize("damage", [b"a serialised engin", b"", None])
def test_a_plan_that_is_damaged_or_gone_makes_it_anew(kept, inspected, damage):
    if damage is None:
        inspected.plan.path.unlink()
    else:
        inspected.plan.path.write_bytes(damage)
    assert recalled(kept) is None


def test_weights_that_were_replaced_make_it_anew(kept, inspected):
    weights = kept / "workloads" / "vit_b_16" / "conditioning.npz"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"other weights")
    assert recalled(kept) is None
    kept_census.keep(CASE, kept, CALIBRATION, inspected)
    assert recalled(kept).census == inspected.census
    weights.write_bytes(b"still others")
    assert recalled(kept) is None


def test_a_damaged_file_is_not_believed(kept):
    (path,) = (kept / "censuses").glob("*.json")
    path.write_bytes(path.read_bytes()[:-1])
    assert recalled(kept) is None


@pytest.mark.parametrize(
    "case",
    [
        "vit_b_16-onnxruntime-fp16-b2-stream",
        "vit_b_16-torch_tensorrt-fp16-b2-stream",
        "mine-tensorrt_engine-fp16-b2-stream",
    ],
)
def test_other_backends_and_a_projects_own_workloads_are_asked_each_time(tmp_path, inspected, case):
    kept_census.keep(Case.parse(case), tmp_path, CALIBRATION, inspected)
    assert not (tmp_path / "censuses").exists()


@pytest.mark.parametrize("other", [{**H100, "gpu": "NVIDIA H100 PCIe"}, {**H100, "driver": None}])
@pytest.mark.parametrize("target", ["with_gpu"], indirect=True)
def test_a_plan_for_another_gpu_than_nvml_tells_is_asked_again(tmp_path, inspected, other):
    """Torch knows which GPU it builds for; without torch only NVML can be asked."""
    plan = dataclasses.replace(inspected.plan, target=other)
    kept_census.keep(CASE, tmp_path, CALIBRATION, dataclasses.replace(inspected, plan=plan))
    assert not (tmp_path / "censuses").exists()


def test_what_is_not_of_a_plan_in_the_cache_is_asked_again(tmp_path, inspected):
    kept_census.keep(CASE, tmp_path, CALIBRATION, dataclasses.replace(inspected, plan=None))
    assert not (tmp_path / "censuses").exists()


@pytest.mark.parametrize("device", ["nvidia0", "nvidiactl", "dxg", "nvhost-gpu"])
def test_a_gpu_is_told_by_its_device_files(tmp_path, device):
    (tmp_path / "null").touch()
    assert not gpu_possible(tmp_path)
    (tmp_path / device).touch()
    assert gpu_possible(tmp_path)
