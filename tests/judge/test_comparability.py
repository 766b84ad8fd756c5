"""Which parts of machine and stack count: in a comparison of two results and in a history of many."""

import itertools

import pytest

from trtgate.case import BackendName, Quantity
from trtgate.judge.comparability import differences, host_of


@pytest.mark.parametrize("machine", ["h100", "cpu_only"])
@pytest.mark.parametrize("field", ["cpu", "threads", "onnxruntime", "torch_tensorrt", "python"])
def test_results_of_one_stack_share_a_host_exactly_where_they_compare(field, machine, request):
    one = request.getfixturevalue(machine)
    value = getattr(one, field)
    other = one.model_copy(update={field: 18 if field == "threads" else f"{value}.1"})
    for quantity, backend in itertools.product(Quantity, BackendName):
        apart = host_of(one, quantity, backend) != host_of(other, quantity, backend)
        assert apart == bool(differences(one, other, quantity, backend)), (quantity, backend)


def test_a_host_is_told_in_words_and_only_where_it_matters(h100, cpu_only):
    engine, wrapper = BackendName.TENSORRT_ENGINE, BackendName.TORCH_TENSORRT
    host = "CPU AMD EPYC 9554, threads 16, ONNX Runtime 1.32.0"
    for quantity in (Quantity.LATENCY, Quantity.THROUGHPUT, Quantity.BUILD):
        assert host_of(h100, quantity, engine) == host
    assert host_of(h100, Quantity.LATENCY, BackendName.ONNXRUNTIME) == host
    assert host_of(h100, Quantity.LATENCY, wrapper) == f"{host}, Torch-TensorRT 2.11.0"
    for quantity in (Quantity.DEVICE, Quantity.PLAN, Quantity.MEMORY, Quantity.PARITY, Quantity.OPTIMISATION):
        assert host_of(h100, quantity, engine) == ""
    assert host_of(h100, Quantity.DEVICE, wrapper) == "Torch-TensorRT 2.11.0"
    assert host_of(cpu_only, Quantity.DEVICE, BackendName.EAGER) == host.replace("16", "2")
