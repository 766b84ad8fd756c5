"""A CPU is named by its model and by the instructions that kernels are chosen by."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtgate.backends.host_cpu import EXACT_INT8, cpu_model


def test_the_cpu_is_named_as_the_kernel_names_it(tmp_path):
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\nflags\t\t: fpu\n")
    assert cpu_model(listing) == "AMD EPYC 9654 96-Core Processor"
    listing.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")  # Arm names no model
    assert cpu_model(listing)
    assert cpu_model(tmp_path / "missing") == cpu_model(listing)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("flags\t\t: fpu avx2 sse4_2 avx512f avx512_vnni", "avx2 avx512f avx512_vnni"),
        ("flags\t\t: fpu avx2 sse4_2", "avx2"),
        ("Features\t: fp asimd asimddp i8mm", "asimddp i8mm"),
    ],
)
def test_two_of_one_model_differ_by_the_instructions_that_are_hidden_from_one(tmp_path, line, told):
    listing = tmp_path / "cpuinfo"
    listing.write_text(f"processor\t: 0\nmodel name\t: AMD EPYC\n{line}\n")
    assert cpu_model(listing) == f"AMD EPYC {told}"


def test_int8_products_do_not_saturate():
    """Two products of 255 and 127 are beyond int16; with the option every CPU adds them right."""
    a, b = np.full((8, 64), 255, np.uint8), np.full((64, 8), 127, np.int8)
    product = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = helper.make_graph(
        [product],
        "saturating",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, a.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (8, 8))],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_INT8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": a})
    assert (found == a.astype(np.int64) @ b.astype(np.int64)).all()
