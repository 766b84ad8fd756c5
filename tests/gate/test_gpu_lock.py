"""Two gates never share a GPU, and the second waits for the first."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from trtgate.errors import EnvironmentInvalidError
from trtgate.gate.gpu_lock import whole_gpu
from trtgate.gate.sides import own_root
from trtgate.measure import device

UUID = "GPU-4ac5d0c6"


def test_the_second_waits_says_so_once_and_goes_on(tmp_path):
    said, order = [], []
    first = whole_gpu(UUID, said.append, tmp_path)
    first.__enter__()

    def second():
        with whole_gpu(UUID, said.append, tmp_path):
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    waiting.join(1.2)
    assert waiting.is_alive()
    order.append("first ends")
    first.__exit__(None, None, None)
    waiting.join(20)
    assert order == ["first ends", "second"]
    assert said == [f"waiting for another gate on {UUID}"]


def test_another_gpu_and_a_cpu_wait_for_nobody(tmp_path):
    holds = [whole_gpu(one, pytest.fail, tmp_path) for one in (UUID, "GPU-other", None)]
    with holds[0], holds[1], holds[2]:
        pass
    assert len(list(tmp_path.iterdir())) == 2


def test_a_gpu_that_is_never_let_go_is_no_verdict(tmp_path):
    refused = pytest.raises(EnvironmentInvalidError, match=f"Another gate has held {UUID} for 0.2 s")
    second = whole_gpu(UUID, lambda _: None, tmp_path, longest_wait_s=0.2)
    with whole_gpu(UUID, pytest.fail, tmp_path), refused, second:
        pytest.fail("two hold it")


def test_a_gate_that_was_killed_holds_nothing(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from trtgate.gate.gpu_lock import whole_gpu
with whole_gpu({UUID!r}, print, Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], cwd=own_root(), check=False)
    with whole_gpu(UUID, pytest.fail, tmp_path):
        pass


def test_the_worker_of_a_gate_that_was_killed_still_holds_it(tmp_path):
    """It goes on to the end of its request, on the GPU."""
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(600)\n")
    script = f"""
import os, signal, sys
from pathlib import Path
from trtgate.gate.client import Worker
from trtgate.gate.gpu_lock import whole_gpu
here = Path({str(tmp_path)!r})
with whole_gpu({UUID!r}, print, here):
    worker = Worker("head", Path(sys.executable), os.environ, here, here / "log", module="sleeper")
    print(worker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=own_root(), check=False, capture_output=True, text=True)
    worker = int(killed.stdout)
    try:
        refused = pytest.raises(EnvironmentInvalidError, match="Another gate has held")
        with refused, whole_gpu(UUID, lambda _: None, tmp_path, longest_wait_s=0.3):
            pytest.fail("two hold it")
    finally:
        os.kill(worker, signal.SIGKILL)
    with whole_gpu(UUID, lambda _: None, tmp_path, longest_wait_s=20):
        pass


def test_the_gpu_is_named_by_what_no_environment_variable_changes(monkeypatch):
    monkeypatch.setattr(device, "cuda_problem", lambda: None)
    monkeypatch.setattr(device.torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(device.torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="4ac5d0c6"))
    assert device.gpu_uuid() == UUID
    monkeypatch.setattr(device, "cuda_problem", lambda: "There is no GPU.")
    assert device.gpu_uuid() is None
