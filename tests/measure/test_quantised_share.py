"""What a quantised row really computes in its datatype, from the model that ModelOpt made to the layers that ran."""

import pytest
import torch
from torch import nn

from trtgate.backends import tensorrt_engine
from trtgate.backends.base import BuildContext
from trtgate.case import Case
from trtgate.errors import OptimisationError
from trtgate.measure import flops
from trtgate.measure.inspect_case import inspect_case
from trtgate.measure.optimisation_run import prove_case
from trtgate.measure.timing import BuildStopwatch
from trtgate.policy.optimisation import ExplainedLayer, OptimisationSettings
from trtgate.precision import quantise_onnx
from trtgate.precision.quantisation_report import COMPUTE_OPERATORS
from trtgate.workloads.base import Workload

pytest.importorskip("modelopt")

SETTINGS = OptimisationSettings()
AHEAD = tensorrt_engine.TensorRTEngineBackend().ahead_of_time_availability()
needs_builder = pytest.mark.skipif(not AHEAD, reason=AHEAD.reason or "TensorRT-RTX is here")


class Recurrent(nn.Module):
    """An LSTM, which ModelOpt leaves alone, and a linear layer with 1% of its work, which it quantises."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.lstm = nn.LSTM(16, 64, batch_first=True)
        self.head = nn.Linear(64, 16)

    def forward(self, values):
        return self.head(self.lstm(self.first(values))[0][:, -1])


class Upsampling(nn.Module):
    """A transposed convolution with most of the work: ModelOpt has a quantised form of it, ONNX Runtime no kernel."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(16, 16, 1)
        self.wide = nn.ConvTranspose2d(16, 16, 4, stride=2)

    def forward(self, values):
        return self.wide(torch.relu(self.narrow(values)))


class Narrow(nn.Module):
    """Three convolutions: by ModelOpt's rules for fp8 the first two have too few channels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 32, 3)
        self.third = nn.Conv2d(32, 32, 3)

    def forward(self, values):
        return self.third(torch.relu(self.second(torch.relu(self.first(values)))))


class Made(Workload):
    input_names = ("values",)
    output_names = ("y",)
    fingerprint = "seeded"

    def __init__(self, kind, *shape):
        self.kind, self.shape = kind, shape
        self.name = kind.__name__.lower()

    def module(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.kind().eval().requires_grad_(False)

    def inputs(self, batch, sequence, seed):
        return (torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(seed)),)


@pytest.fixture
def context(tmp_path):
    return BuildContext(torch.device("cpu"), None, tmp_path, BuildStopwatch())


def case_of(workload, backend, precision):
    return Case.parse(f"{workload.name}-{backend}-{precision}-b2-stream")


def report_in(folder):
    (path,) = folder.glob("quantised/*.onnx")
    return quantise_onnx.report_of(path)


def test_what_is_skipped_and_what_is_counted_are_the_same_operators():
    integer = {"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul"}
    assert {op for op in flops._RULES if flops.counted(op)} - integer == COMPUTE_OPERATORS


def test_a_row_that_runs_in_float_is_no_int8_row(context, tmp_path):
    workload = Made(Recurrent, 12, 16)
    case = case_of(workload, "onnxruntime", "int8")
    with pytest.raises(
        OptimisationError, match=r"runs in int8, the floor is 90\.0%; not in int8: '\S*lstm\S*' in fp32"
    ) as seen:
        prove_case(workload, case, context, SETTINGS)
    assert "nothing explains it" in str(seen.value)
    skipped = report_in(tmp_path).skipped
    assert [(node.operator, node.by_rule) for node in skipped] == [("LSTM", False)]
    assert skipped[0].note == "ModelOpt or the runtime has no int8 form of it"
    # A person may say that the row is meant so; the rest still has to run in int8.
    entry = ExplainedLayer(case=case.id, node=skipped[0].name, datatype="fp32", reason="the head is what is measured")
    proven = prove_case(workload, case, context, OptimisationSettings(explained=(entry,)))
    assert proven.facts["share"]["int8"] < 0.05


def test_a_transposed_convolution_is_not_said_to_be_quantised_where_it_runs_in_float(context, tmp_path):
    workload = Made(Upsampling, 16, 8, 8)
    with pytest.raises(OptimisationError, match=r"5\.9% of the work runs in int8"):
        prove_case(workload, case_of(workload, "onnxruntime", "int8"), context, SETTINGS)
    report = report_in(tmp_path)
    assert [node.operator for node in report.skipped] == ["ConvTranspose"]
    assert {node.operator for node in report.quantised} >= {"Conv"}


@needs_builder
def test_what_a_rule_of_modelopts_leaves_alone_is_explained_in_its_datatype_alone(context):
    workload = Made(Narrow, 3, 32, 32)
    case = case_of(workload, "tensorrt_engine", "fp8")
    proven = prove_case(workload, case, context, SETTINGS)
    assert 0.5 < proven.facts["share"]["fp8"] < 0.9  # under the floor, were it not for the rule
    inspected = inspect_case(workload, case, context)
    assert sorted(inspected.left_alone) == ["node_conv2d", "node_conv2d_1"]
    assert set(map(str, inspected.left_alone.values())) == {"fp16"}
