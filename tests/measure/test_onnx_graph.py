"""Structure and work of ONNX graphs, without their weights."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from trtgate.case import Precision
from trtgate.errors import InspectionError
from trtgate.measure import onnx_skeleton
from trtgate.measure.onnx_graph import read_sources, sources_of_model
from trtgate.measure.onnx_skeleton import load_skeleton
from trtgate.workloads import micro_models


def graph(nodes, inputs, outputs, weights=(), opset=21):
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights]
    return helper.make_model(
        helper.make_graph(nodes, "g", made, ends, tensors),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "output", "flops"),
    [
        # torch.utils.flop_counter's convention; groups, strides and transposition are what is easily got wrong.
        (("Conv", {"group": 2, "strides": [2, 2]}), [(2, 8, 9, 9)], [(6, 4, 3, 3)], (2, 6, 4, 4), 2 * 192 * 4 * 9),
        (("ConvTranspose", {"strides": [2, 2]}), [(1, 4, 5, 5)], [(4, 3, 2, 2)], (1, 3, 10, 10), 2 * 100 * 3 * 4),
        (("Gemm", {"transA": 1, "transB": 1}), [(7, 5)], [(3, 7)], (5, 3), 2 * 5 * 3 * 7),
        (("MatMul", {}), [(2, 4, 5, 6), (6, 3)], [], (2, 4, 5, 3), 2 * 2 * 4 * 5 * 3 * 6),
        (("Einsum", {"equation": "bij,bjk->bik"}), [(2, 3, 4), (2, 4, 5)], [], (2, 3, 5), 2 * 2 * 3 * 4 * 5),
        (("LSTM", {"hidden_size": 8}), [(5, 2, 4)], [(1, 32, 4), (1, 32, 8)], (5, 1, 2, 8), 2 * 5 * 2 * 32 * 12),
        (("Relu", {}), [(4, 4)], [], (4, 4), 0),
    ],
)
def test_flops(node, inputs, weights, output, flops):
    op, attributes = node
    names = [f"i{n}" for n in range(len(inputs))] + [f"w{n}" for n in range(len(weights))]
    model = graph(
        [helper.make_node(op, names, ["y"], name="n", **attributes)],
        list(zip(names, inputs, strict=False)),
        [("y", output)],
        list(zip(names[len(inputs) :], weights, strict=True)),
    )
    (found,) = sources_of_model(model)
    assert found.flops == flops
    assert found.activations == (min(len(inputs), 2) if flops else 0)


def test_attention_node():
    shape = (2, 4, 6, 8)
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="a")
    model = graph([node], [(name, shape) for name in "qkv"], [("y", shape)], opset=23)
    assert sources_of_model(model)[0].flops == 2 * 2 * 4 * 6 * 6 * (8 + 8)


def test_flops_agree_with_torch(tmp_path):
    from torch.utils.flop_counter import FlopCounterMode

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 10)
    ).eval()
    inputs = (torch.zeros(2, 3, 15, 15),)
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    path = tmp_path / "m.onnx"
    torch.onnx.export(module, inputs, path, dynamo=True, external_data=False, verbose=False)
    assert sum(node.flops for node in read_sources(path)) == counter.get_total_flops()


def test_unknown_shapes_are_refused_and_can_be_given():
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="n")
    model = graph([node], [("x", ("batch", 4))], [("y", ("batch", 5))], [("w", (4, 5))])
    with pytest.raises(InspectionError, match=r"node 'n' \(MatMul\).*static shapes"):
        sources_of_model(model)
    assert sources_of_model(model, {"x": (3, 4)})[0].flops == 2 * 3 * 4 * 5
    with pytest.raises(InspectionError, match="no input 'z'"):
        sources_of_model(model, {"z": (3, 4)})


def test_repeated_and_missing_node_names_are_told_apart():
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=name) for i, name in enumerate(["a", "a", ""])]
    found = sources_of_model(graph(nodes, [("t0", (2,))], [("t3", (2,))]))
    assert [node.name for node in found] == ["a", "a#2", "Relu(t3)"]


def test_a_skeleton_has_everything_but_large_weights(tmp_path):
    path = micro_models.get("conv_block").write(tmp_path, Precision.FP32)
    whole, skeleton = onnx.load(path), load_skeleton(path)
    assert [node.SerializeToString() for node in skeleton.graph.node] == [
        node.SerializeToString() for node in whole.graph.node
    ]
    dims = {tensor.name: list(tensor.dims) for tensor in whole.graph.initializer}
    assert {tensor.name: list(tensor.dims) for tensor in skeleton.graph.initializer} == dims
    kept = {tensor.name for tensor in skeleton.graph.initializer if tensor.raw_data or tensor.float_data}
    assert kept == {"b1", "b2"}
    assert read_sources(path) == sources_of_model(whole)


def test_garbage_ends_at_its_first_field_and_a_model_of_a_million_empty_ones_at_its_budget(tmp_path, monkeypatch):
    path = tmp_path / "x.onnx"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(InspectionError, match="field number 0 at byte 0"):
        load_skeleton(path)
    path.write_bytes(b"\x08\x0a\x4a\x00")  # field 9 is none of a model's
    with pytest.raises(InspectionError, match="a model has no field 9, which stands at byte 2"):
        load_skeleton(path)
    monkeypatch.setattr(onnx_skeleton, "_MOST_STRUCTURE_BYTES", 2**20)
    # Empty nodes; and an initialiser of empty pieces of data, none of which would be kept.
    for inner in (b"\x0a\x00" * 70_000, b"\x2a" + varint(140_000) + b"\x22\x00" * 70_000):
        path.write_bytes(b"\x3a" + varint(len(inner)) + inner)
        with pytest.raises(InspectionError, match="more than 1 MiB beside its initialisers"):
            load_skeleton(path)


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"not a model at all", b"\x3a\xff\xff\xff\xff\x0f"])
def test_files_that_are_no_models_are_refused(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InspectionError, match=r"x\.onnx"):
        load_skeleton(path)
    with pytest.raises(InspectionError, match="cannot be read"):
        load_skeleton(tmp_path / "absent.onnx")
