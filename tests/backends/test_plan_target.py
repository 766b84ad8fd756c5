"""The GPU that torch would use is told without torch, or not at all."""

import subprocess
import sys

import pytest
import torch
from simulated_nvml import Gpu, Nvml

from trtgate.backends import gpu_files, plan_target, trt_build
from trtgate.backends.base import YES

H100 = Gpu()
H100_BESIDE = Gpu(uuid="GPU-bbbb0000-1111-2222-3333-444455556666")
T400 = Gpu("NVIDIA T400", (7, 5), "GPU-cccc0000-1111-2222-3333-444455556666", sliced=None)
TOLD = {"gpu": "NVIDIA H100 80GB HBM3", "compute_capability": "sm_90", "driver": "580.159.04"}


@pytest.fixture
def machine(monkeypatch):
    """Make a machine with these GPUs and this CUDA_VISIBLE_DEVICES."""
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: True)

    def make(*gpus, visible=None, **answers):
        nvml = Nvml(*gpus, **answers)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return nvml

    return make


@pytest.mark.parametrize(
    ("gpus", "visible"),
    [
        ([H100], None),
        ([H100], "0"),
        ([H100, H100_BESIDE], None),
        ([H100, H100_BESIDE], "1,0"),
        ([T400, H100], H100.uuid),
        ([T400, H100], "GPU-aaaa"),
        ([H100_BESIDE, T400, H100], f"{H100.uuid},{T400.uuid}"),
    ],
    ids=["one", "named", "alike", "alike in another order", "uuid", "beginning of a uuid", "first of two"],
)
def test_a_gpu_is_told_where_the_numbering_does_not_matter(machine, gpus, visible):
    nvml = machine(*gpus, visible=visible)
    assert plan_target.here() == TOLD
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("gpus", "visible"),
    [
        ([], None),
        ([T400, H100], None),
        ([T400, H100], "1"),
        ([H100], "1"),
        ([H100], "0,0"),
        ([H100], "0, 0"),
        ([H100, H100_BESIDE], "GPU-"),
        ([H100], T400.uuid),
        ([H100], "MIG-aaaa0000-1111-2222-3333-444455556666"),
        ([Gpu(sliced=True)], None),
        ([H100], "NoDevFiles"),
    ],
)
def test_a_gpu_is_not_told_where_only_cuda_knows_which_it_is(machine, gpus, visible):
    machine(*gpus, visible=visible)
    assert plan_target.here() is None


@pytest.mark.parametrize("error", [Nvml.NVML_ERROR_DRIVER_NOT_LOADED, Nvml.NVML_ERROR_UNKNOWN])
def test_a_gpu_is_not_told_without_nvml(machine, monkeypatch, error):
    machine(H100, error=error)
    assert plan_target.here() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it then fails
    assert plan_target.here() is None


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_none_and_a_plan_is_built_ahead_of_time(machine, visible):
    machine(H100, visible=visible)
    assert plan_target.here() == plan_target.AHEAD_OF_TIME


def test_without_a_gpu_nvml_is_not_asked(machine, monkeypatch):
    monkeypatch.setattr(gpu_files, "gpu_possible", lambda: False)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert plan_target.here() == plan_target.AHEAD_OF_TIME


@pytest.mark.parametrize("driver", ["580.159.04", b"580.159.04"])
def test_torch_and_nvml_tell_the_same_of_a_gpu(machine, monkeypatch, driver):
    """A plan is stored under what torch tells, its census under what NVML tells; torch's side is simulated here."""
    machine(H100, driver=driver)
    monkeypatch.setattr(trt_build, "cuda_answer", lambda: YES)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: H100.capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: H100.name)
    assert trt_build.gpu_key() == plan_target.here() == TOLD


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_torch_and_nvml_tell_the_same_of_the_gpu_here():
    assert plan_target.here() in (None, trt_build.gpu_key())


def test_it_is_told_without_torch():
    told = "import sys; from trtgate.backends import plan_target; plan_target.here(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
