"""Written out, depthwise convolutions compute the same, and everything else is left alone."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from trtgate.measure.float32_model import float32_twin
from trtgate.precision import depthwise


def export(module, path, size=16, channels=3):
    torch.onnx.export(
        module.eval().bfloat16(),
        (torch.randn(2, channels, size, size).bfloat16(),),
        path,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.Conv2d(8, 4, 1)
    )
    return export(module, tmp_path_factory.mktemp("onnx") / "net-bf16.onnx")


def test_only_the_depthwise_convolution_is_written_out(exported, tmp_path):
    model = onnx.load(depthwise.unrolled(exported, tmp_path))
    onnx.checker.check_model(model)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 2
    assert sum(node.op_type == "Mul" for node in model.graph.node) == 9
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.BFLOAT16]


def test_weights_that_nobody_reads_any_more_are_gone(exported, tmp_path):
    graph = onnx.load(depthwise.unrolled(exported, tmp_path)).graph
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 5, "padding": 2, "stride": 2},
        {"kernel_size": (1, 7), "padding": (0, 3)},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
        {"kernel_size": 4, "stride": 3},
    ],
    ids=lambda options: "-".join(f"{name}{value}" for name, value in options.items()),
)
def test_the_sum_is_the_convolution(options, tmp_path):
    torch.manual_seed(0)
    path = export(torch.nn.Conv2d(6, 6, groups=6, **options), tmp_path / "one.onnx", size=13, channels=6)
    model = onnx.load(path)
    before = float32_twin(model)
    assert depthwise.unroll(model)
    inputs = {model.graph.input[0].name: np.random.default_rng(0).standard_normal((2, 6, 13, 13), np.float32)}
    expected, found = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for each in (before, float32_twin(model))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_second_call_reads_the_cache(exported, tmp_path, monkeypatch):
    first = depthwise.unrolled(exported, tmp_path)
    monkeypatch.setattr(depthwise, "unroll", lambda model: pytest.fail("it was made again"))
    assert depthwise.unrolled(exported, tmp_path) == first


@pytest.mark.parametrize("module", [torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 6, 3, groups=3)], ids=["dense", "two"])
def test_a_model_without_one_is_used_as_it_is(module, tmp_path):
    path = export(module, tmp_path / "dense.onnx", size=8)
    assert depthwise.unrolled(path, tmp_path / "cache") == path
