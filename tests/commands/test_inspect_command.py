"""trtgate inspect and trtgate bisect, called as a user calls them."""

import gzip
import json
from pathlib import Path

import pytest

from trtgate.backends import tensorrt_engine
from trtgate.backends.cuda_device import cuda_answer
from trtgate.case import Precision
from trtgate.cli import main
from trtgate.measure.build_log import parse_build_log
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


LOG = "tests/data/engines/transformer_fp16_rtx_1.6"


@pytest.mark.parametrize("prefix", ["", "[VERBOSE] ", "[11/23/2026-10:11:12] [V] [TRT] "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_inspecting_a_builders_log(tmp_path, capsys, monkeypatch, prefix, end):
    monkeypatch.setenv("COLUMNS", "1000")  # however long the path of the log is
    recorded = gzip.decompress(Path(f"{LOG}.log.gz").read_bytes()).decode()
    _, _, block = recorded.partition("Layers:")
    log = tmp_path / "build.log"
    said = f"{prefix}Building an engine.\n{prefix}Layers:{block.rstrip()}\n{prefix}Engine generation completed.\n"
    log.write_bytes(said.replace("\n", end).encode())
    assert main(["inspect", str(log), "--json"]) == 0
    census = json.loads(capsys.readouterr().out)["census"]
    wanted = parse_build_log(recorded.split("\n"))
    assert [layer["name"] for layer in census["layers"]] == [layer.name for layer in wanted.layers]
    assert [tuple(layer["sources"]) for layer in census["layers"]] == [layer.sources for layer in wanted.layers]
    assert main(["inspect", str(log)]) == 0
    assert "build.log  told by build log" in capsys.readouterr().out


def test_a_log_of_another_file_is_refused(capsys, tmp_path):
    log = tmp_path / "build.log"
    log.write_text("nothing of layers")
    assert main(["inspect", str(log)]) == 2
    assert "The build log holds no list of layers" in capsys.readouterr().err


def test_the_raw_output_of_a_module_of_engines_is_read_back(tmp_path, capsys):
    """--raw of a torch_tensorrt case: one inspector document an engine, in a list."""
    document = json.loads(Path(SAMPLE).read_text(encoding="utf-8"))
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps([document, document]))
    assert main(["inspect", str(raw), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["compute_layers"] == {"fp16": 2, "fp8": 40}
    assert found["facts"]["origin"] == "torch_tensorrt"
    raw.write_text(json.dumps([document, {"Layers": ["a"]}]))
    assert main(["inspect", str(raw)]) == 2
    assert "LAYER_NAMES_ONLY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Inputs": 5}, "Inputs that cannot be read: 5"),
        ({"Inputs": [{"Name": "x", "Dimensions": None}]}, "Inputs that cannot be read"),
        ({"Outputs": [{"Name": "x", "Dimensions": ["a"]}]}, 'Outputs that cannot be read: "a"'),
        ({"Constants": "weights"}, "Constants that cannot be read"),
        ({"StreamId": "q"}, "StreamId that cannot be read"),
        ({"Weights": {"Type": "Half", "Count": [1]}}, "Weights that cannot be read"),
    ],
)
def test_malformed_inspector_json_is_refused_by_layer(tmp_path, capsys, fields, words):
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"Layers": [{"Name": "conv", "LayerType": "kgen", **fields}]}))
    assert main(["inspect", str(path)]) == 2
    captured = capsys.readouterr()
    assert f"The layer 'conv' of the inspector's output has {words}" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")
def test_inspecting_a_micro_model_by_its_case_id(tmp_path, capsys):
    arguments = ["inspect", "conv_block-tensorrt_engine-fp16-b1-stream", "--cache-dir", str(tmp_path), "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert main(arguments) == 0
    told, again = json.loads(printed), json.loads(capsys.readouterr().out)
    assert (told.pop("recalled"), again.pop("recalled")) == (False, True)
    assert told == again
    facts = told["facts"]
    assert facts["nodes"] == [
        "Conv conv_plain",
        "Relu relu_plain",
        "Conv conv_residual",
        "Add add_residual",
        "Relu relu_residual",
    ]
    assert facts["groups"][facts["compute"]["conv_residual"]["layer"]] == [2, 3, 4]


@pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")
def test_of_tf32_it_says_that_a_census_cannot_tell_it(tmp_path, capsys):
    said = "to the runtime TF32 is no datatype but a way to multiply float32"
    for precision, told in (("tf32", True), ("fp32", False)):
        case = f"mlp-tensorrt_engine-{precision}-b1-stream"
        assert main(["inspect", case, "--cache-dir", str(tmp_path)]) == 0
        assert (said in capsys.readouterr().out) is told
        assert main(["inspect", case, "--cache-dir", str(tmp_path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)["facts"]
        assert (facts["compute_layers"], said in facts.get("note", "")) == ({"fp32": 2}, told)


def test_two_engines_against_each_other(capsys):
    assert main(["inspect", SAMPLE, "--against", SAMPLE]) == 0
    assert "41 of 41 layers are the same" in capsys.readouterr().out.replace("\n", " ")
    assert main(["inspect", "tests/data/engines/conv_bn_relu_fp16.json", "--against", SAMPLE, "--json"]) == 0
    changes = {row["change"] for row in json.loads(capsys.readouterr().out)["layers"]}
    assert "removed" in changes


@pytest.mark.parametrize("name", ["net[fp16].json", "a[/b].json", "[bold].json", ":rocket:.json"])
def test_the_name_of_a_file_is_text_and_no_markup(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("COLUMNS", "1000")
    named = tmp_path / name
    named.parent.mkdir(exist_ok=True)  # of a name with a slash
    named.write_bytes(Path(SAMPLE).read_bytes())
    assert main(["inspect", str(named)]) == 0
    assert f"{named}  " in capsys.readouterr().out
    assert main(["inspect", str(named), "--against", str(named)]) == 0
    assert f"{named} against {named}: 41 of 41 layers" in capsys.readouterr().out


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
        (["resnet18-eager-fp16-b8-stream"], "keeps no list of layers", 2),
        (["conv_block-eager-fp16-b1-stream"], "Inspect conv_block-tensorrt_engine-fp16-b1-stream", 2),
        (["conv_block-tensorrt_engine-fp16-b8-stream"], "asks for b8. Name it conv_block-tensorrt_engine-fp16-b1", 2),
        (["conv_block-tensorrt_engine-int8-b1-stream"], "has no int8 form", 2),
        (["conv_block-tensorrt_engine-fp16-b1-stream", "--profile", "3"], "is never run", 2),
        ([SAMPLE, "--profile", "3"], "needs inputs", 2),
        ([SAMPLE, "--raw", "/nonexistent/raw.json"], "cannot be written", 2),
        (["resnet18-onnxruntime-fp32-b8-stream", "--profile", "3"], "has no profiler of layers", 2),
        (["README.md"], "is not a serialised engine: it begins with b'# trtgate", 2),
        (["trtgate.toml", "--against", SAMPLE], "is not a serialised engine", 2),
        pytest.param(
            ["resnet18-tensorrt_engine-fp16-b8-stream", "--profile", "3"],
            "cannot be profiled here",
            4,
            marks=pytest.mark.skipif(bool(cuda_answer()), reason="There is a GPU here."),
        ),
    ],
)
def test_bad_input(arguments, words, code, capsys, tmp_path):
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
    told = json.loads(capsys.readouterr().out)
    assert "A tensor that is shown is not fused away" in told["warning"]
    assert (told["tensors"], told["runs"]) == (7, 2)
    culprit = told["culprit"]
    assert culprit["node"] == "scores"
    assert culprit["output"]["non_finite"] > 0
    assert [one["datatype"] for one in culprit["inputs"]] == ["FLOAT16", "FLOAT16"]


def test_bisecting_a_micro_model_by_its_case_id(tmp_path, capsys):
    assert main(["bisect", "overflow-onnxruntime-fp16-b1-stream", "--cache-dir", str(tmp_path)]) == 1
    assert "the error jumps at node 'scores'" in capsys.readouterr().out


@pytest.mark.parametrize("backend", ["eager", "inductor", "torch_tensorrt"])
def test_a_backend_that_shows_nothing_names_the_case_that_does(tmp_path, capsys, backend):
    """At once, before anything is exported."""
    case = f"resnet18-{backend}-fp16-b8-stream"
    assert main(["bisect", case, "--cache-dir", str(tmp_path)]) == 2
    assert "Run 'trtgate bisect resnet18-tensorrt_engine-fp16-b8-stream'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_bisecting_what_is_right(tmp_path, capsys):
    path = micro_models.get("overflow").write(tmp_path, Precision.FP32)
    assert main(["bisect", str(path), "--backend", "onnxruntime", "--precision", "fp32"]) == 0
    assert "no output is wrong on the seeds 0, 1, 2, 3: the largest relative error is" in capsys.readouterr().out


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
    assert main(["bisect", str(path), *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"), [("nothing.onnx", "nothing.onnx cannot be read"), ("bad.onnx", "bad.onnx is not an ONNX model")]
)
def test_bisecting_what_is_no_model_is_a_wrong_argument(tmp_path, capsys, name, words):
    (tmp_path / "bad.onnx").write_text("hello")
    assert main(["bisect", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


def test_bisecting_an_engine_needs_a_gpu(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    path = micro_models.get("overflow").write(tmp_path, Precision.FP16)
    assert main(["bisect", str(path)]) == 4
    assert "cannot be run here" in capsys.readouterr().err
