from importlib import metadata

import pytest
import torch
from quantisable import BATCH, Elementwise, Tiny
from torch import nn

from trtgate import artefacts
from trtgate.case import Precision
from trtgate.errors import BackendAbsentError, CalibrationError, ExportError, UnsupportedCaseError
from trtgate.precision import quantise_torch
from trtgate.precision.calibration import CalibrationSpec, Method

pytest.importorskip("modelopt")

CPU = torch.device("cpu")
SPEC = CalibrationSpec(count=10)


class OneLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(image)


class Attention(nn.Module):
    """nn.MultiheadAttention reads its output projection's weights and never calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = self.fc(image)
        return self.attention(hidden, hidden, hidden, need_weights=False)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("torch")


def to_int8(values: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    return (values * (127 / amax)).round().clamp(-127, 127) * (amax / 127)


def to_fp8(values: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    return (values * (448 / amax)).clamp(-448, 448).to(torch.float8_e4m3fn).float() * (amax / 448)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_a_layer_computes_with_rounded_weights_and_activations(folder, precision):
    workload = Tiny(OneLinear, (16,))
    module = quantise_torch.fake_quantised(workload, precision, folder, CPU, SPEC)
    (data,) = workload.calibration_inputs(SPEC.count, None, SPEC.seed)
    (inputs,) = workload.inputs(BATCH, None, 5)
    inputs[0, 0] = 100.0  # far outside of what calibration saw: it saturates
    layer = workload.module().fc
    if precision is Precision.INT8:
        weight = to_int8(layer.weight, layer.weight.abs().amax(dim=1, keepdim=True))
        expected = nn.functional.linear(to_int8(inputs, data.abs().max()), weight, layer.bias)
    else:
        weight = to_fp8(layer.weight, layer.weight.abs().max())
        expected = nn.functional.linear(to_fp8(inputs, data.abs().max()), weight, layer.bias)
    torch.testing.assert_close(module(inputs), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(module(inputs), workload.module()(inputs), rtol=1e-3)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_float64_between_the_quantisers_changes_next_to_nothing(folder, precision):
    workload = Tiny()
    module = quantise_torch.fake_quantised(workload, precision, folder, CPU, SPEC)
    (inputs,) = workload.inputs(BATCH, None, 5)
    single = module(inputs)
    double = module.double()(inputs.double())
    assert double.dtype == torch.float64
    # A sum that ends next to a rounding boundary may fall on its other side: one step of one activation.
    assert (double - single).norm() / double.norm() < 5e-3


def test_ranges_are_kept_and_read_back(tmp_path):
    workload = Tiny()
    (inputs,) = workload.inputs(BATCH, None, 5)
    first = quantise_torch.fake_quantised(workload, Precision.INT8, tmp_path, CPU, SPEC)
    assert len(workload.asked) == 1
    again = quantise_torch.fake_quantised(workload, Precision.INT8, tmp_path, CPU, SPEC)
    assert len(workload.asked) == 1
    assert torch.equal(first(inputs), again(inputs))
    assert quantise_torch.report_of(first) == quantise_torch.report_of(again)
    quantise_torch.fake_quantised(workload, Precision.INT8, tmp_path, CPU, CalibrationSpec(SPEC.count, seed=1))
    assert len(workload.asked) == 2


def test_damaged_ranges_are_calibrated_again(tmp_path):
    workload = Tiny()
    (inputs,) = workload.inputs(BATCH, None, 5)
    first = quantise_torch.fake_quantised(workload, Precision.FP8, tmp_path, CPU, SPEC)
    (file,) = tmp_path.rglob("*.pt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    again = quantise_torch.fake_quantised(workload, Precision.FP8, tmp_path, CPU, SPEC)
    assert artefacts.intact(file)
    assert torch.equal(first(inputs), again(inputs))


def test_entropy_clips_activations_and_leaves_weights(folder):
    entropy = CalibrationSpec(SPEC.count, SPEC.seed, Method.ENTROPY)
    widest = quantise_torch.fake_quantised(Tiny(), Precision.INT8, folder, CPU, SPEC)
    clipped = quantise_torch.fake_quantised(Tiny(), Precision.INT8, folder, CPU, entropy)
    ranges, full = quantise_torch.report_of(clipped).ranges, quantise_torch.report_of(widest).ranges
    assert ranges.keys() == full.keys()
    assert all(ranges[name] <= full[name] * 1.001 for name in full)
    assert any(ranges[name] < 0.98 * full[name] for name in full)
    assert torch.equal(clipped.conv.weight_quantizer.amax, widest.conv.weight_quantizer.amax)
    assert widest.conv.weight_quantizer.amax.numel() == 16


def test_what_was_quantised_and_what_was_skipped_is_named(folder):
    report = quantise_torch.report_of(
        quantise_torch.fake_quantised(Tiny(Attention, (4, 16)), Precision.INT8, folder, CPU, SPEC)
    )
    assert [node.name for node in report.quantised] == ["fc"]
    assert {node.name: node.note for node in report.skipped} == {
        "attention": "ModelOpt has no quantised form of it",
        "attention.out_proj": "calibration never called it: another module reads its weight",
    }
    assert report.ranges.keys() == {"fc.input_quantizer"}


def test_nothing_to_quantise_is_said_with_the_modules_that_are_there(folder):
    with pytest.raises(CalibrationError, match=r"nothing to quantise to int8.*LayerNorm"):
        quantise_torch.fake_quantised(Tiny(Elementwise, (16,)), Precision.INT8, folder, CPU, SPEC)


def test_bad_data_is_refused_and_nothing_is_kept(tmp_path):
    workload = Tiny()
    workload.data = (torch.full((2, 3, 16, 16), float("inf")),)
    with pytest.raises(CalibrationError, match="not finite"):
        quantise_torch.fake_quantised(workload, Precision.INT8, tmp_path, CPU, SPEC)
    assert not list(tmp_path.rglob("*.pt"))


class Dead(OneLinear):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(image * 0.0)


def test_a_layer_that_sees_only_zeros_is_refused(folder):
    with pytest.raises(CalibrationError, match=r"'fc.input_quantizer' the range 0.0"):
        quantise_torch.fake_quantised(Tiny(Dead, (16,)), Precision.INT8, folder, CPU, SPEC)


def test_export_keeps_the_quantisers_as_operators(folder):
    workload = Tiny()
    inputs = workload.inputs(BATCH, None, 5)
    module = quantise_torch.fake_quantised(workload, Precision.FP8, folder, CPU, SPEC)
    program = quantise_torch.export(module, inputs)
    operators = [str(node.target) for node in program.graph.nodes if "quantize_op" in str(node.target)]
    assert len(operators) == 8  # weights and input of four layers
    torch.testing.assert_close(program.module()(*inputs), module(*inputs))


def test_int8_cannot_be_exported_on_the_cpu_and_says_where(folder):
    workload = Tiny()
    module = quantise_torch.fake_quantised(workload, Precision.INT8, folder, CPU, SPEC)
    with pytest.raises(ExportError, match="on a GPU"):
        quantise_torch.export(module, workload.inputs(BATCH, None, 5))


def test_it_is_silent(tmp_path, capfd, recwarn):
    quantise_torch.fake_quantised(Tiny(), Precision.INT8, tmp_path, CPU, SPEC)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_without_modelopt_it_says_how_to_get_it(tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(quantise_torch.metadata, "version", absent)
    with pytest.raises(BackendAbsentError, match=r"trtgate\[quantize\]"):
        quantise_torch.fake_quantised(Tiny(), Precision.INT8, tmp_path, CPU, SPEC)


def test_other_precisions_and_entropy_for_fp8_are_refused(tmp_path):
    with pytest.raises(UnsupportedCaseError, match="bf16 is not"):
        quantise_torch.fake_quantised(Tiny(), Precision.BF16, tmp_path, CPU, SPEC)
    entropy = CalibrationSpec(method=Method.ENTROPY)
    with pytest.raises(CalibrationError, match="Entropy"):
        quantise_torch.fake_quantised(Tiny(), Precision.FP8, tmp_path, CPU, entropy)
