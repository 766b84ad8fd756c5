"""Which parts of machine and stack count: in a comparison of two results and in a history of many."""

import itertools

import pytest

from trtgate.case import BackendName, Case, Quantity
from trtgate.judge.comparability import differences, host_of, stack_differences
from trtgate.record import EVENT_PAIR

ENGINE, WRAPPER, EAGER = (
    Case.parse(f"resnet18-{backend}-fp16-b8-graph") for backend in ("tensorrt_engine", "torch_tensorrt", "eager")
)
CASES = [
    Case.parse(f"resnet18-{backend}-fp16-b8-{execution}")
    for backend in BackendName
    for execution in ("stream", "graph")
]


@pytest.mark.parametrize("machine", ["h100", "cpu_only"])
@pytest.mark.parametrize("field", ["cpu", "threads", "onnxruntime", "torch_tensorrt", "python"])
def test_results_of_one_stack_share_a_host_exactly_where_they_compare(field, machine, request):
    one = request.getfixturevalue(machine)
    value = getattr(one, field)
    other = one.model_copy(update={field: 18 if field == "threads" else f"{value}.1"})
    for quantity, case in itertools.product(Quantity, CASES):
        apart = host_of(one, quantity, case) != host_of(other, quantity, case)
        assert apart == bool(differences(one, other, quantity, case)), (quantity, case)


def test_a_host_is_told_in_words_and_only_where_it_matters(h100, cpu_only):
    host = "CPU AMD EPYC 9554, threads 16, ONNX Runtime 1.32.0"
    for quantity in (Quantity.LATENCY, Quantity.THROUGHPUT, Quantity.BUILD):
        assert host_of(h100, quantity, ENGINE) == host
    assert host_of(h100, Quantity.LATENCY, Case.parse("resnet18-onnxruntime-fp16-b8-stream")) == host
    assert host_of(h100, Quantity.LATENCY, WRAPPER) == f"{host}, Torch-TensorRT 2.11.0"
    for quantity in (Quantity.DEVICE, Quantity.PLAN, Quantity.MEMORY, Quantity.PARITY, Quantity.OPTIMISATION):
        assert host_of(h100, quantity, ENGINE) == ""
    assert host_of(h100, Quantity.DEVICE, WRAPPER) == "Torch-TensorRT 2.11.0"
    assert host_of(cpu_only, Quantity.DEVICE, EAGER) == host.replace("16", "2")


def test_what_is_launched_call_by_call_is_of_its_host_in_device_time_too(h100):
    stream = Case.parse("resnet18-eager-fp16-b8-stream")
    moved = h100.model_copy(update={"threads": 18})
    assert differences(h100, moved, Quantity.DEVICE, stream) == ["threads 16 and 18"]
    assert differences(h100, moved, Quantity.DEVICE, EAGER) == []
    assert differences(h100, moved, Quantity.PARITY, stream) == []


def test_a_stack_is_what_counts_for_everything(h100, cpu_only):
    assert stack_differences(h100, h100.model_copy(update={"threads": 18, "torch_tensorrt": "2.12"})) == []
    assert stack_differences(h100, h100.model_copy(update={"driver": "590.1"})) == ["driver 580.159.04 and 590.1"]
    assert stack_differences(cpu_only, cpu_only.model_copy(update={"threads": 18})) == ["threads 2 and 18"]


def test_device_times_of_two_readings_of_the_clock_do_not_compare_and_everything_else_does(h100, cpu_only):
    before = h100.model_copy(update={"device_clock": EVENT_PAIR})
    apart = ["device clock event pair and event pair less an empty one"]
    assert differences(before, h100, Quantity.DEVICE, ENGINE) == apart
    assert host_of(before, Quantity.DEVICE, ENGINE) == "device clock event pair"
    for quantity in set(Quantity) - {Quantity.DEVICE}:
        assert differences(before, h100, quantity, ENGINE) == []
        assert host_of(before, quantity, ENGINE) == host_of(h100, quantity, ENGINE)
    assert stack_differences(before, h100) == []
    without_a_gpu = cpu_only.model_copy(update={"device_clock": EVENT_PAIR})
    assert differences(without_a_gpu, cpu_only, Quantity.DEVICE, ENGINE) == []
