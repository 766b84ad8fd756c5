"""trtgate inspect and trtgate bisect, called as a user calls them."""

import json

import pytest

from trtgate.backends import tensorrt_engine
from trtgate.case import Precision
from trtgate.cli import main
from trtgate.workloads import micro_models

SAMPLE = "tests/data/engines/r18fp8_layers.json"
AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_inspecting_a_recorded_engine(capsys):
    assert main(["inspect", SAMPLE, "--layers"]) == 0
    printed = capsys.readouterr().out
    assert "53, of which 41 kernels" in printed
    assert "node_Conv_295" in printed.replace("\n", "")


def test_inspecting_for_machines(capsys):
    assert main(["inspect", SAMPLE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["compute_layers"] == {"fp16": 1, "fp8": 20}
    assert len(found["census"]["layers"]) == 53


def test_two_engines_against_each_other(capsys):
    assert main(["inspect", SAMPLE, "--against", SAMPLE]) == 0
    assert "41 of 41 layers are the same" in capsys.readouterr().out.replace("\n", " ")
    assert main(["inspect", "tests/data/engines/conv_bn_relu_fp16.json", "--against", SAMPLE, "--json"]) == 0
    changes = {row["change"] for row in json.loads(capsys.readouterr().out)["layers"]}
    assert "removed" in changes


@pytest.mark.slow
@pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")
def test_inspecting_a_case_without_a_gpu(tmp_path, capsys):
    case = "resnet18-tensorrt_engine-fp16-b1-stream"
    assert main(["inspect", case, "--cache-dir", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["share"] == {"fp16": 1.0}
    assert facts["kernels"] == 25
    (plan,) = (tmp_path / "plans").glob("*.plan")
    assert main(["inspect", str(plan)]) == 0
    assert "49 ONNX nodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["nothing.plan"], "neither a file nor a case id", 2),
        (["resnet19-tensorrt_engine-fp16-b8-graph"], "Did you mean 'resnet18'", 2),
        (["resnet18-eager-fp16-b8-stream"], "keeps no list of layers", 4),
        ([SAMPLE, "--profile", "3"], "needs inputs", 2),
        ([SAMPLE, "--raw", "/nonexistent/raw.json"], "cannot be written", 2),
        (["README.md"], "", 4),
    ],
)
def test_bad_input(arguments, words, code, capsys, tmp_path):
    if arguments == ["README.md"]:
        names = tmp_path / "names.json"
        names.write_text('{"Layers": ["a", "b"]}')
        arguments, words = [str(names)], "LAYER_NAMES_ONLY"
    assert main(["inspect", *arguments, "--cache-dir", str(tmp_path)]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_bisecting_a_planted_overflow(tmp_path, capsys):
    """Attention without its scale: the scores leave float16. The real part runs here, in ONNX Runtime."""
    path = micro_models.get("overflow").write(tmp_path, Precision.FP16)
    assert main(["bisect", str(path), "--backend", "onnxruntime"]) == 1
    printed = capsys.readouterr().out
    assert "the error jumps at node 'scores' (MatMul)" in printed
    assert "more than FLOAT16 holds: an overflow" in printed
    assert "'query' FLOAT16, in the reference from" in printed
    assert main(["bisect", str(path), "--backend", "onnxruntime", "--json"]) == 1
    culprit = json.loads(capsys.readouterr().out)["culprit"]
    assert culprit["node"] == "scores"
    assert culprit["output"]["non_finite"] > 0
    assert [one["datatype"] for one in culprit["inputs"]] == ["FLOAT16", "FLOAT16"]


def test_bisecting_what_is_right(tmp_path, capsys):
    path = micro_models.get("overflow").write(tmp_path, Precision.FP32)
    assert main(["bisect", str(path), "--backend", "onnxruntime", "--precision", "fp32"]) == 0
    assert "every output is right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "eager"], "does not show intermediate tensors"),
        (["--backend", "onnxruntim"], "Did you mean 'onnxruntime'"),
        (["--at-once", "0"], "--at-once is 0"),
    ],
)
def test_bad_bisections(tmp_path, capsys, arguments, words):
    path = micro_models.get("overflow").write(tmp_path, Precision.FP16)
    assert main(["bisect", str(path), *arguments]) in (2, 4)
    assert words in capsys.readouterr().err


def test_bisecting_an_engine_needs_a_gpu(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    path = micro_models.get("overflow").write(tmp_path, Precision.FP16)
    assert main(["bisect", str(path)]) == 4
    assert "cannot be run here" in capsys.readouterr().err
