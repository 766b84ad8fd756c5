"""Quantised cases: what was skipped is told, also of a census that is recalled, and why one cannot be calibrated."""

import json

import pytest
import torch
from seeded_workload import SeededWorkload

from trtgate.backends import tensorrt_engine
from trtgate.cli import main
from trtgate.commands import inspect
from trtgate.workloads import registry

pytest.importorskip("modelopt")
AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
SAID = "ModelOpt did not quantise 1 Conv: 'node_conv2d' (weight [8, 3, 3, 3]: fewer than 16 channels)."


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow = torch.nn.Conv2d(3, 8, 3)
        self.head = torch.nn.Linear(8, 32)

    def forward(self, image):
        return self.head(torch.relu(self.narrow(image)).mean((2, 3)))


class Small(SeededWorkload):
    """In simple_cnn's place, whose training takes ten seconds."""

    name = "simple_cnn"
    input_names = ("image",)
    fingerprint = "small 1"
    make = Net
    shape = (3, 8, 8)


@pytest.fixture(autouse=True)
def _small(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(registry, "get", lambda name, **source: Small())


def told(capsys, case, folder, *options):
    assert main(["inspect", case, "--cache-dir", str(folder), *options]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")
def test_what_was_not_quantised_is_told_at_first_and_when_recalled(tmp_path, capsys, monkeypatch):
    case = "simple_cnn-tensorrt_engine-fp8-b2-stream"
    first = told(capsys, case, tmp_path)
    assert first.rstrip().endswith(SAID)
    monkeypatch.setattr(inspect, "_inspect_anew", lambda *arguments: pytest.fail("it was inspected anew"))
    assert told(capsys, case, tmp_path) == first
    (node,) = json.loads(told(capsys, case, tmp_path, "--json"))["facts"]["skipped"]
    assert (node["name"], node["operator"], node["by_rule"]) == ("node_conv2d", "Conv", True)


def test_nothing_is_told_where_nothing_was_skipped(tmp_path, capsys):
    """ONNX Runtime's placement quantises every convolution and product."""
    case = "simple_cnn-onnxruntime-int8-b2-stream"
    assert "did not quantise" not in told(capsys, case, tmp_path)
    assert "skipped" not in json.loads(told(capsys, case, tmp_path, "--json"))["facts"]


def test_a_workload_that_cannot_be_calibrated_is_no_defect_of_trtgate(tmp_path, capsys, monkeypatch):
    class Broken(Small):
        def calibration_inputs(self, count, sequence, seed):
            raise FileNotFoundError("no pictures in data/")

    monkeypatch.setattr(registry, "get", lambda name, **source: Broken())
    assert main(["inspect", "simple_cnn-onnxruntime-int8-b2-stream", "--cache-dir", str(tmp_path)]) == 4
    said = capsys.readouterr().err
    assert said.startswith(
        "trtgate: calibration_inputs of 'simple_cnn' raised FileNotFoundError: no pictures in data/. Correct the "
    )
    assert "Traceback" not in said
