import pytest
import torch

from trtgate.case import Precision
from trtgate.errors import UnsupportedCaseError
from trtgate.precision import cast
from trtgate.workloads import registry
from trtgate.workloads.torchvision_zoo import TorchvisionModel
from trtgate.workloads.transformer import Dimensions, Transformer

FLOATING = [precision for precision in Precision if not precision.quantised]


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    return Transformer(Dimensions(layers=2, hidden=64, heads=4, intermediate=128, vocabulary=2000, positions=32))


@pytest.mark.parametrize("precision", FLOATING)
def test_every_floating_tensor_has_the_type_of_the_precision(transformer, precision):
    module = cast.prepare(transformer, precision)
    dtype = cast.dtype_of(precision)
    assert {tensor.dtype for tensor in module.state_dict().values()} == {dtype}
    outputs = module(*cast.cast_inputs(transformer.inputs(2, None, seed=0), precision))
    assert {output.dtype for output in outputs} == {dtype}
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_token_ids_stay_whole_numbers(transformer):
    (ids,) = transformer.inputs(2, None, seed=0)
    (cast_ids,) = cast.cast_inputs((ids,), Precision.BF16)
    assert cast_ids.dtype == torch.int64
    assert torch.equal(cast_ids, ids)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_a_quantised_module_is_not_a_cast(transformer, precision):
    with pytest.raises(UnsupportedCaseError, match=f"'transformer' cannot be cast to {precision}"):
        cast.prepare(transformer, precision)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_a_module_made_in_inference_mode_is_an_ordinary_one(transformer, tmp_path, precision):
    """An inference tensor cannot be exported, quantised or changed in place later."""
    with torch.inference_mode():
        modules = [
            cast.prepare(workload, precision)
            for workload in (transformer, TorchvisionModel("mobilenet_v3_small", tmp_path))
        ]
    assert not any(tensor.is_inference() for module in modules for tensor in module.state_dict().values())


def relative_errors(workload, precision, batch):
    """Relative L2 error of plain PyTorch against float64, one an output."""
    inputs = workload.inputs(batch, None, seed=0)
    with torch.inference_mode():
        exact = workload.module().double()(*(v.double() if v.is_floating_point() else v for v in inputs))
        found = cast.prepare(workload, precision)(*cast.cast_inputs(inputs, precision))
    exact, found = (outputs if isinstance(outputs, tuple) else (outputs,) for outputs in (exact, found))
    for right, output in zip(exact, found, strict=True):
        assert torch.isfinite(output).all()
        yield float((output.double() - right).norm() / right.norm())


MOST = {Precision.FP32: 1e-5, Precision.FP16: 1.5e-2, Precision.BF16: 1e-1}


@pytest.mark.parametrize("precision", MOST)
def test_rounding_errors_are_those_of_the_datatype(transformer, precision):
    assert all(0 < error < MOST[precision] for error in relative_errors(transformer, precision, 2))


def test_bf16_of_a_model_with_everything_to_rewrite_stays_close(tmp_path):
    assert max(relative_errors(TorchvisionModel("mobilenet_v3_small", tmp_path), Precision.BF16, 2)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_every_workload_is_finite_and_close_in_every_precision(name, tmp_path):
    workload = registry.get(name, cache=tmp_path)
    for precision, most in MOST.items():
        assert max(relative_errors(workload, precision, 2)) < most
