from __future__ import annotations

from importlib import metadata

import pytest
import torch

from trtgate.measure import device

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


def test_identity_names_cpu_stack_and_threads():
    found = device.identity()
    assert found.torch == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert found.onnxruntime == metadata.version("onnxruntime")
    assert found.cpu
    assert found.folder


@no_gpu
def test_identity_without_a_gpu_names_none():
    found = device.identity()
    assert found.gpu is found.architecture is found.driver is None
    assert found.folder.startswith("cpu_")


@no_gpu
def test_the_problem_with_cuda_is_one_sentence():
    problem = device.cuda_problem()
    assert problem is not None
    assert problem.endswith(".")
    assert "\n" not in problem


@no_gpu
@pytest.mark.parametrize("asked", [None, torch.device("cpu")])
def test_a_monitor_without_a_gpu_sees_nothing(asked):
    with device.Monitor(asked) as watch:
        assert watch.look() == ()
        assert watch.environment(kept_blocks=3).model_dump(exclude_defaults=True) == {"kept_blocks": 3}
        assert watch.memory_used_bytes() is None
