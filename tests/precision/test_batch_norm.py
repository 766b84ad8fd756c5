"""An ONNX file holds weights that were folded in float32 and rounded once, not the exporter's own folding."""

import warnings

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tests.seeded_workload import SeededWorkload
from trtgate.backends import onnx_export
from trtgate.case import Precision
from trtgate.precision import batch_norm, cast


class Block(nn.Module):
    """A convolution whose statistics are far from one, as trained ones are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-2, 2, generator=generator)
            self.norm.running_var.uniform_(0.001, 3, generator=generator)
            self.norm.weight.uniform_(0.1, 2, generator=generator)
            self.norm.bias.uniform_(-1, 1, generator=generator)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(image)).relu()


class Branching(Block):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) if image.isfinite().all() else image


class Folds(SeededWorkload):
    name = "resnet18"
    input_names = ("image",)
    shape = (3, 9, 9)
    make = Block
    fingerprint = "block"


class FoldsNot(Folds):
    make = Branching


def weights_of(workload, path):
    onnx_export._write(workload, Precision.FP16, 2, None, path)
    tensors = onnx.load(path).graph.initializer
    return {len(tensor.dims): torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in tensors}


def folded_exactly(block):
    norm = block.norm.double()
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return block.conv.weight.double() * scale.reshape(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


def test_the_weights_of_a_float16_file_are_rounded_once(tmp_path):
    found = weights_of(Folds(), tmp_path / "block.onnx")
    kernel, bias = folded_exactly(Folds().module())
    # Half a unit in the last place, and what folding in float32 may add to it.
    assert abs(found[4].double() - kernel).div(kernel.abs()).max() < 2**-11 * 1.001
    assert abs(found[1].double() - bias).div(bias.abs()).max() < 2**-11 * 1.001


def test_what_every_backend_runs_keeps_its_batch_norm():
    assert batch_norm.holds_batch_norm(cast.prepare(Folds(), Precision.FP16))
    assert not batch_norm.holds_batch_norm(cast.prepare_to_export(Folds(), Precision.FP16))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_a_node_has_one_name_in_every_precision(tmp_path, precision):
    onnx_export._write(Folds(), precision, 2, None, tmp_path / "block.onnx")
    nodes = onnx.load(tmp_path / "block.onnx").graph.node
    assert [(node.op_type, node.name) for node in nodes] == [("Conv", "node_conv2d"), ("Relu", "node_relu")]


def test_a_float32_module_that_cannot_be_traced_is_left_to_the_exporter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert batch_norm.holds_batch_norm(cast.prepare_to_export(FoldsNot(), Precision.FP32))


def test_a_module_that_cannot_be_traced_is_exported_with_a_warning():
    with pytest.warns(
        cast.BatchNormWarning, match=r"'resnet18' can be rewritten: .*folds BatchNorm in fp16, which rounds"
    ) as told:
        module = cast.prepare_to_export(FoldsNot(), Precision.FP16)
    assert told[0].filename == __file__
    assert batch_norm.holds_batch_norm(module)
    assert module.conv.weight.dtype == torch.float16


def test_a_module_without_batch_norm_is_not_traced():
    class Plain(Folds):
        make = staticmethod(lambda: nn.Conv2d(3, 4, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(cast.prepare_to_export(Plain(), Precision.FP16), nn.Conv2d)
