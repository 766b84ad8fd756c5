"""A model without a quantised node: the other placement is advised only where it would quantise one."""

import pytest
import torch
from quantisable import BATCH, Tiny, exported
from torch import nn

from trtgate.case import BackendName, Case, Precision
from trtgate.errors import CalibrationError
from trtgate.precision import quantise_onnx
from trtgate.precision.calibration import CalibrationSpec, Placement

pytest.importorskip("modelopt")

ADVICE = 'placement = "every"'


class NoProduct(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.relu().mean(-1)


class FewChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image).relu()


class NoFp8Form(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(16, 16, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image).relu()


def quantised(kind, shape, folder, placement):
    workload = Tiny(kind, shape)
    case = Case(workload.name, BackendName.TENSORRT_ENGINE, Precision.FP8, BATCH)
    spec = CalibrationSpec(count=BATCH, placement=placement)
    return quantise_onnx.quantise(exported(workload, folder), workload, case, folder, spec)


def test_a_node_that_a_rule_left_out_is_quantised_by_the_other_placement(tmp_path):
    with pytest.raises(CalibrationError, match=r"the placement 'tensorrt' left them all in fp16 .*than 16") as raised:
        quantised(FewChannels, (3, 8, 8), tmp_path, Placement.TENSORRT)
    assert ADVICE in raised.value.fix
    path = quantised(FewChannels, (3, 8, 8), tmp_path, Placement.EVERY)
    assert [node.operator for node in quantise_onnx.report_of(path).quantised] == ["Conv"]


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize(("kind", "shape"), [(NoProduct, (16,)), (NoFp8Form, (16, 4, 4))])
def test_what_no_placement_quantises_is_to_be_measured_in_fp16(tmp_path, kind, shape, placement):
    with pytest.raises(CalibrationError, match=r"nothing to quantise to fp8.*, and ModelOpt left them all") as raised:
        quantised(kind, shape, tmp_path, placement)
    assert raised.value.fix == "Measure this workload in fp16."
