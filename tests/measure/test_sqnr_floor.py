"""A calibration that has got worse is found in one run, though each engine is as right as its model."""

import fnmatch
from pathlib import Path

import pytest
import torch
from torch import nn

from trtgate.case import Case
from trtgate.errors import ParityError
from trtgate.measure import parity
from trtgate.policy import ParitySettings, load
from trtgate.policy.parity import SqnrFloor
from trtgate.workloads import registry
from trtgate.workloads.base import Workload

pytest.importorskip("modelopt")

CASE = Case.parse("calibrated-onnxruntime-int8-b8-stream")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 64)
        self.second = nn.Linear(64, 16)

    def forward(self, values):
        return self.second(torch.relu(self.first(values)))


class Calibrated(Workload):
    """Its calibration data may hold one value that no input ever has, which makes every step of int8 coarser."""

    name = "calibrated"
    input_names = ("values",)
    output_names = ("y",)

    def __init__(self, outlier=0.0):
        self.outlier = outlier
        self.fingerprint_ = f"calibrated {outlier}"

    @property
    def fingerprint(self):
        return self.fingerprint_

    def module(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Net().eval().requires_grad_(False)

    def inputs(self, batch, sequence, seed):
        return (torch.randn(batch, 32, generator=torch.Generator().manual_seed(seed)),)

    def calibration_inputs(self, count, sequence, seed):
        (values,) = super().calibration_inputs(count, sequence, seed)
        values[0, 0] = max(float(values[0, 0]), self.outlier)
        return (values,)


def decibels(workload, context, *floors):
    reference = parity.reference(workload, CASE, ParitySettings(sqnr_floor=floors), context)
    return parity.sqnr_of_batches(reference.exact, reference.outputs, 0)


def test_a_calibration_that_costs_five_decibels_is_refused(cpu_context):
    good, bad = decibels(Calibrated(), cpu_context), decibels(Calibrated(outlier=14.0), cpu_context)
    assert 4 < good - bad < 20
    floor = SqnrFloor(workload="calib*", precision="int8", at_least_db=good - 2, reason="measured")
    assert decibels(Calibrated(), cpu_context, floor) == good
    with pytest.raises(ParityError, match=rf"only {bad:.1f} dB above its noise .*below the floor of .*\(measured\)"):
        decibels(Calibrated(outlier=14.0), cpu_context, floor)
    # Without a floor, or with one of other rows, it passes: an engine is as right as its model.
    elsewhere = SqnrFloor(workload="calibrated", backend="tensorrt_engine", at_least_db=300, reason="of an engine")
    assert decibels(Calibrated(outlier=14.0), cpu_context, elsewhere) == bad


POLICY = load(Path(__file__).parents[2] / "trtgate.toml")
QUANTISED = [
    f"{workload}-{backend}-{precision}-{'b1s128' if workload == 'transformer' else 'b1'}-stream"
    for workload in registry.OWN
    for backend in ("onnxruntime", "tensorrt_engine", "torch_tensorrt")
    for precision in ("int8", "fp8")
    if (backend, precision) != ("onnxruntime", "fp8")  # which it does not run
]


@pytest.mark.parametrize("case", QUANTISED)
def test_every_quantised_row_has_a_floor_unless_quantising_is_known_to_ruin_it(case):
    floors = [floor for floor in POLICY.parity.sqnr_floor if floor.applies(Case.parse(case))]
    patterns = [
        pattern
        for known in POLICY.known_failure
        if known.explains("of the norm away from float64")
        for pattern in known.case
    ]
    assert len(floors) == (0 if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns) else 1)


def test_the_highest_of_the_floors_that_name_a_case_holds():
    def floor(decibels, **fields):
        return SqnrFloor(workload="resnet*", at_least_db=decibels, reason="measured", **fields)

    floors = (floor(12.0), floor(15.0, backend="onnxruntime"), floor(20.0, precision="fp8"))
    settings = ParitySettings(sqnr_floor=floors)

    def of(case):
        found = settings.sqnr_floor_for(Case.parse(case))
        return found and found.at_least_db

    assert of("resnet18-onnxruntime-int8-b1-stream") == 15.0
    assert of("resnet18-tensorrt_engine-int8-b1-stream") == 12.0
    assert of("resnet18-tensorrt_engine-fp8-b1-stream") == 20.0
    assert of("vit_b_16-tensorrt_engine-fp8-b1-stream") is None
