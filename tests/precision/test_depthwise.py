"""Widening computes the same convolutions, more exactly, and leaves everything else alone."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from trtgate.precision import depthwise


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.Conv2d(8, 4, 1)
    ).eval()
    path = tmp_path_factory.mktemp("onnx") / "net-bf16.onnx"
    torch.onnx.export(
        module.bfloat16(),
        (torch.randn(1, 3, 16, 16).bfloat16(),),
        path,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def test_only_the_depthwise_convolution_is_widened(exported, tmp_path):
    path = depthwise.widened(exported, tmp_path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    kernels = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [kernels[node.input[1]] for node in convolutions] == [
        TensorProto.BFLOAT16,
        TensorProto.FLOAT,
        TensorProto.BFLOAT16,
    ]


def test_the_widened_convolution_computes_the_same(exported):
    """Each node alone, in ONNX's reference arithmetic: bf16 weights are exact in float32."""
    model = onnx.load(exported)
    before = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float32) for tensor in model.graph.initializer}
    (name,) = depthwise.widen(model)
    node = next(node for node in model.graph.node if node.op_type == "Conv" and "wide" in node.output[0])
    after = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for wide in node.input[1:]:
        np.testing.assert_array_equal(after[wide], before[wide.removesuffix("_wide")])
    assert name


def test_a_second_call_reads_the_cache(exported, tmp_path, monkeypatch):
    first = depthwise.widened(exported, tmp_path)
    monkeypatch.setattr(depthwise, "widen", lambda model: pytest.fail("it was made again"))
    assert depthwise.widened(exported, tmp_path) == first


def test_a_model_without_one_is_used_as_it_is(tmp_path):
    module = torch.nn.Conv2d(3, 8, 3).eval().bfloat16()
    path = tmp_path / "dense.onnx"
    torch.onnx.export(
        module, (torch.randn(1, 3, 8, 8).bfloat16(),), path, dynamo=True, external_data=False, verbose=False
    )
    assert depthwise.widened(path, tmp_path / "cache") == path
