"""Export for real: files that TensorRT builds, that ONNX Runtime runs, and that are trusted only while intact."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from trtgate import artefacts
from trtgate.backends import onnx_export
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import ExportError, UsageError
from trtgate.workloads import registry, weights
from trtgate.workloads.base import Workload
from trtgate.workloads.simple_cnn import SimpleCNN
from trtgate.workloads.torchvision_zoo import TorchvisionModel
from trtgate.workloads.transformer import Dimensions, Transformer

FLOATS = (Precision.FP32, Precision.FP16, Precision.BF16)


class Given(Workload):
    """A module and a batch of ones, or of any shape."""

    input_names = ("image",)
    output_names = ("logits",)
    fingerprint = ""

    def __init__(self, module: nn.Module, shape: tuple[int, ...] = (1, 28, 28), name: str = "given") -> None:
        self.name = name
        self.fingerprint = name
        self._module = weights.frozen(module)
        self._shape = shape

    def module(self) -> nn.Module:
        return self._module

    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        self.checked_sequence(batch, sequence)
        return (torch.rand(batch, *self._shape, generator=torch.Generator().manual_seed(seed)),)


def case(workload: Workload, precision: Precision, batch: int = 1, sequence: int | None = None) -> Case:
    return Case(workload.name, BackendName.TENSORRT_ENGINE, precision, batch, sequence)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits() -> Workload:
    """The article's network with seeded weights: training changes nothing that an exporter sees."""
    module = weights.frozen(SimpleCNN())
    weights.fill(module, 0)
    return Given(module, name="digits")


@pytest.fixture(scope="module")
def sentences() -> Transformer:
    dimensions = Dimensions(layers=2, hidden=64, heads=4, intermediate=128, vocabulary=2000, positions=32)
    return Transformer(dimensions, name="sentences")


def layers_of_plan(path, precision) -> tuple[int, int]:
    """Parse and build with TensorRT-RTX for SM 8.9, which needs no GPU: layers of the network, bytes of the plan."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(path))
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    floats = {"fp32": trt.float32, "fp16": trt.float16, "bf16": trt.bfloat16}
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    assert {output.dtype for output in outputs} == {floats[precision]}
    return network.num_layers, len(bytes(plan))


@pytest.mark.parametrize("precision", FLOATS)
def test_tensorrt_builds_the_encoder(sentences, cache, stages, precision):
    path = onnx_export.export(sentences, case(sentences, precision), cache, stages)
    layers, size = layers_of_plan(path, precision)
    assert layers > 50
    assert size > 100_000


def test_tensorrt_builds_the_articles_network_in_bf16(digits, cache, stages):
    assert layers_of_plan(onnx_export.export(digits, case(digits, Precision.BF16), cache, stages), "bf16")[0] > 5


@pytest.mark.slow
def test_tensorrt_builds_mobilenet_in_bf16(tmp_path, stages):
    """BatchNorm, HardSwish and HardSigmoid: everything that the parser refuses in bf16."""
    workload = TorchvisionModel("mobilenet_v3_small", tmp_path)
    path = onnx_export.export(workload, case(workload, Precision.BF16), tmp_path, stages)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"BatchNormalization", "HardSwish", "HardSigmoid"}
    assert layers_of_plan(path, "bf16")[0] > 100


@pytest.mark.slow
@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("name", registry.names())
def test_tensorrt_builds_every_workload(name, precision, tmp_path_factory, stages):
    cache = tmp_path_factory.getbasetemp() / "every_workload"
    workload = registry.get(name, cache=cache)
    path = onnx_export.export(workload, case(workload, precision), cache, stages)
    layers_of_plan(path, precision)
    path.unlink()


def test_the_file_computes_what_the_module_computes(sentences, cache, stages):
    path = onnx_export.export(sentences, case(sentences, Precision.FP32, 3, 12), cache, stages)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = sentences.inputs(3, 12, seed=1)
    found = session.run(list(sentences.output_names), {"input_ids": inputs[0].numpy()})
    for output, expected in zip(found, sentences.module()(*inputs), strict=True):
        torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-5)


def test_names_shapes_and_types_are_the_workloads(sentences, cache, stages):
    path = onnx_export.export(sentences, case(sentences, Precision.FP32, 3, 12), cache, stages)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.input] == ["input_ids"]
    assert [value.name for value in model.graph.output] == ["last_hidden_state", "pooled"]
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [3, 12]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert model.opset_import[0].version == onnx_export.OPSET


def test_an_export_says_nothing_on_the_terminal(digits, tmp_path, stages, capfd):
    onnx_export.export(digits, case(digits, Precision.FP32), tmp_path, stages)
    assert capfd.readouterr() == ("", "")


def test_a_second_export_reads_the_cache(digits, cache, stages):
    first = onnx_export.export(digits, case(digits, Precision.FP32), cache, stages)
    made = first.stat().st_mtime_ns
    stages.names.clear()
    assert onnx_export.export(digits, case(digits, Precision.FP32), cache, stages) == first
    assert first.stat().st_mtime_ns == made
    assert stages.names == []


def test_tf32_and_fp32_share_a_file_and_nothing_else_does(digits, cache, stages, monkeypatch):
    def path(precision=Precision.FP32, batch=1):
        return onnx_export.export(digits, case(digits, precision, batch), cache, stages)

    assert path(Precision.TF32) == path()
    different = {path(), path(Precision.BF16), path(batch=2)}
    monkeypatch.setattr(digits, "fingerprint", "other weights")
    different.add(path())
    assert len(different) == 4


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no digest"])
def test_a_file_that_was_tampered_with_is_exported_again(digits, cache, stages, damage):
    path = onnx_export.export(digits, case(digits, Precision.FP32), cache, stages)
    content = bytearray(path.read_bytes())
    if damage == "no digest":
        artefacts.sidecar(path).unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:-10] if damage == "truncated" else content)
    stages.names.clear()
    assert onnx_export.export(digits, case(digits, Precision.FP32), cache, stages) == path
    assert stages.names == ["export"]
    assert artefacts.intact(path)
    onnx.checker.check_model(onnx.load(path))


class _Branching(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if image.sum() > 0 else -image


class _SingularValues(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(image)


@pytest.mark.parametrize(
    ("module", "says"),
    [(_Branching(), "data-dependent"), (_SingularValues(), "linalg_svd")],
    ids=["control flow on values", "operator without ONNX"],
)
def test_a_refused_module_says_what_was_refused(tmp_path, stages, capfd, module, says):
    workload = Given(module, (4, 4), name="bad")
    with pytest.raises(ExportError, match=f"torch.onnx.export refused 'bad' in fp32: .*{says}"):
        onnx_export.export(workload, case(workload, Precision.FP32), tmp_path, stages)
    assert not list(tmp_path.rglob("*.onnx"))
    assert capfd.readouterr() == ("", "")


def test_outputs_that_the_workload_does_not_name_are_refused(tmp_path, stages):
    class Two(nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return image + 1, image + 2

    workload = Given(Two(), (4,), name="two")
    with pytest.raises(ExportError, match=r"Name each tensor that the module takes and returns"):
        onnx_export.export(workload, case(workload, Precision.FP32), tmp_path, stages)


def test_a_sequence_for_a_picture_is_refused(digits, tmp_path, stages):
    with pytest.raises(UsageError, match="no sequence dimension"):
        onnx_export.export(digits, case(digits, Precision.FP32, 1, 128), tmp_path, stages)


def test_weights_beyond_one_file_are_refused_before_the_export(tmp_path, stages, monkeypatch, digits):
    monkeypatch.setattr(onnx_export, "_MAX_EMBEDDED_BYTES", 1000)
    with pytest.raises(ExportError, match="GiB of weights; one ONNX file holds less than 2 GiB"):
        onnx_export.export(digits, case(digits, Precision.FP32), tmp_path, stages)
