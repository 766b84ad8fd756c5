"""Files that are no engine's, and --onnx where it has no meaning: a sentence each, never a traceback."""

import codecs
import gzip
import json
from pathlib import Path

import pytest

from trtgate.case import Precision
from trtgate.cli import main
from trtgate.measure import inspection
from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import SourceNode
from trtgate.workloads import micro_models

FOLDER = Path(__file__).parents[1] / "data" / "engines"
SAMPLE = FOLDER / "r18fp8_layers.json"
LOG = gzip.decompress((FOLDER / "vit_b_16_fp16_rtx_1.6.log.gz").read_bytes())
NODE = (SourceNode(name="node_linear", op="MatMul", flops=1, activations=1),)


def layer(**fields):
    return json.dumps({"Layers": [{"Name": "conv", "LayerType": "kgen", **fields}]})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"Layers": [' + "9" * 5000 + "]}", "not JSON that can be read (Exceeds the limit"),
        (layer(Inputs=[{"Name": "x", "Dimensions": [float("inf")]}]), "Inputs that cannot be read: Infinity"),
        (layer(Inputs=[{"Name": "x", "Dimensions": [float("nan")]}]), "Inputs that cannot be read: NaN"),
        (layer(Inputs=[{"Name": "x", "Dimensions": [1.5]}]), "Inputs that cannot be read: 1.5"),
        (layer(StreamId=1e400), "StreamId that cannot be read: Infinity"),
        (layer(Metadata="\ud800"), "surrogates not allowed"),
        (layer(Outputs=[{"Name": "y\udfff", "Dimensions": [1]}]), "surrogates not allowed"),
    ],
    ids=["deep", "digits", "infinity", "nan", "fraction", "stream", "surrogate", "surrogate in a tensor"],
)
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--layers"]])
def test_json_that_no_inspector_prints_is_refused(tmp_path, capsys, content, words, arguments):
    path = tmp_path / "layers.json"
    path.write_text(content)
    assert main(["inspect", str(path), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "defect of trtgate" not in said


def test_a_byte_order_mark_is_no_reason_to_refuse_a_file(tmp_path, capsys):
    json_file, log = tmp_path / "layers.json", tmp_path / "build.log"
    json_file.write_bytes(codecs.BOM_UTF8 + SAMPLE.read_bytes())
    log.write_bytes(codecs.BOM_UTF8 + LOG)
    for path, layers in ((json_file, 53), (log, 137)):
        assert main(["inspect", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["facts"]["layers"] == layers


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("layers.json", 2, "has 65 MiB; an engine inspector's JSON has at most a few"),
        ("build.log", 2, "has a line of more than 32 million characters"),
        ("some.census.json", 2, "is not a census of trtgate's"),
    ],
)
def test_what_is_far_too_large_is_refused_before_it_is_read(tmp_path, capsys, name, code, words):
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    assert main(["inspect", str(path)]) == code
    assert words in capsys.readouterr().err


@pytest.fixture
def census():
    return parse_build_log(LOG.decode().split("\n")).model_copy(update={"sources": NODE})


@pytest.fixture
def onnx_path(tmp_path):
    return micro_models.get("mlp").write(tmp_path, Precision.FP16)


def test_an_onnx_file_is_never_ignored(tmp_path, capsys, census, onnx_path):
    plan = tmp_path / "vit.plan"
    plan.write_bytes(b"a serialised engine")
    inspection.keep_census(plan, census)
    beside = inspection.census_path(plan)
    for target, words in (
        (plan, "holds the graph that its engine was built from. Leave --onnx out."),
        (beside, "holds the graph that its engine was built from. Leave --onnx out."),
        ("mlp-tensorrt_engine-fp16-b1-stream", "is a case, whose graph is exported here. Leave --onnx out."),
    ):
        assert main(["inspect", str(target), "--onnx", str(onnx_path), "--cache-dir", str(tmp_path)]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_an_onnx_file_that_the_engine_was_not_built_from_is_refused(tmp_path, capsys, onnx_path):
    """Its work would be claimed by no layer: 'unknown 100%' looks like a fault of the engine."""
    log = tmp_path / "build.log"
    log.write_bytes(LOG)
    for path, first in ((log, "node_Conv_1084"), (SAMPLE, "x_cast_to_fp16")):
        assert main(["inspect", str(path), "--onnx", str(onnx_path)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"nodes that they were built from, such as '{first}'" in said
        assert f"{onnx_path} has 0 of them" in said


def test_an_onnx_file_for_layers_that_name_no_nodes_is_refused(tmp_path, capsys, onnx_path):
    path = tmp_path / "layers.json"
    path.write_text(layer(Inputs=[{"Name": "x", "Dimensions": [1], "Format/Datatype": "Half"}]))
    assert main(["inspect", str(path)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(path), "--onnx", str(onnx_path)]) == 2
    assert "The layers name 0 nodes" in capsys.readouterr().err
