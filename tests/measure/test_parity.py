from __future__ import annotations

import itertools

import pytest
import torch
from small_workload import ModuleUnderTest, SmallWorkload, case_of

from trtgate.case import Case, Precision
from trtgate.errors import ParityError
from trtgate.measure import parity
from trtgate.policy import ParitySettings, ParityTolerance
from trtgate.record import Parity

SETTINGS = ParitySettings()
_fingerprints = itertools.count()


def workload_of(**options):
    """A workload whose reference no other test has computed."""
    return SmallWorkload(fingerprint=f"small {next(_fingerprints)}", **options)


def compared(context, change=lambda outputs, call: outputs, precision="fp32", settings=SETTINGS, **options):
    workload, case = workload_of(**options), case_of(precision)
    reference = parity.reference(workload, case, settings, context)
    return parity.compare(ModuleUnderTest(workload, case, change), reference, settings, case, workload, context)


def replaced(outputs, index, at, value):
    """The outputs with one element changed."""
    changed = [output.clone() for output in outputs]
    changed[index][at] = value
    return tuple(changed)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_plain_pytorch_passes_at_every_precision(cpu_context, precision):
    found = compared(cpu_context, precision=precision)
    assert found.passed, found.message
    assert found.message == ""
    assert found.reference == "float64"
    assert found.batches == 4
    assert [output.name for output in found.outputs] == ["logits", "embedding"]
    for output in found.outputs:
        # The candidate is what the yardstick was measured on.
        assert output.relative_l2 == pytest.approx(output.yardstick, rel=1e-6)
        assert 0 < output.relative_l2 <= output.bound
        assert output.cosine == pytest.approx(1, abs=1e-3)
        assert output.max_abs > 0
    parity.require(found, case_of(precision))


def test_errors_are_larger_at_lower_precision(cpu_context):
    worst = [
        compared(cpu_context, precision=precision).outputs[0].relative_l2 for precision in ("fp32", "fp16", "bf16")
    ]
    assert worst[0] < 1e-5 < worst[1] < worst[2] < 0.05


def test_a_bound_is_the_multiple_of_the_yardstick_where_that_is_above_the_floor(cpu_context):
    tight = ParitySettings(tolerance={Precision.FP16: ParityTolerance(factor=2.0, floor=1e-12)})
    output = compared(cpu_context, precision="fp16", settings=tight).outputs[0]
    assert output.bound == pytest.approx(2 * output.yardstick)
    assert compared(cpu_context, precision="fp16").outputs[0].bound == max(3 * output.yardstick, 1e-3)


def test_a_wrong_output_is_named_with_element_values_metric_and_bound(cpu_context):
    found = compared(cpu_context, lambda outputs, call: replaced(outputs, 0, (2, 7), 5.0) if call == 1 else outputs)
    assert not found.passed
    assert "Output 'logits' of batch 1: relative L2 error" in found.message
    assert "beyond the bound 1e-05" in found.message
    assert "3 times plain PyTorch's" in found.message
    assert "worst at element [2, 7]: candidate 5, reference" in found.message
    with pytest.raises(ParityError, match=r"^small-eager-fp32-b4-stream does not compute .*Run 'trtgate doctor'"):
        parity.require(found, case_of())


@pytest.mark.parametrize(
    ("case", "command"),
    [
        ("small-tensorrt_engine-fp16-b4-graph", "trtgate bisect small-tensorrt_engine-fp16-b4-graph"),
        ("small-onnxruntime-int8-b4-stream", "trtgate bisect small-onnxruntime-int8-b4-stream"),
        ("small-torch_tensorrt-fp8-b4s16-graph-cold", "trtgate bisect small-tensorrt_engine-fp8-b4s16-graph-cold"),
        (
            "small-inductor-bf16-b4s16-graph",
            "pytest benchmarks/test_parity.py --workload small --backend eager --batch 4 --sequence-length 16 "
            "--precision bf16",
        ),
        (
            "small-eager-fp16-b4-graph",
            "pytest benchmarks/test_parity.py --workload small --backend eager --batch 4 --precision fp32",
        ),
        ("small-eager-fp32-b4-stream", "trtgate doctor"),
    ],
)
def test_a_failure_advises_a_command_that_takes_this_backend(case, command):
    failed = Parity(passed=False, reference="float64", batches=1, outputs=(), metrics={}, message="It is wrong.")
    with pytest.raises(ParityError) as caught:
        parity.require(failed, Case.parse(case))
    assert f"Run '{command}'" in caught.value.fix


def test_the_second_output_is_compared_too(cpu_context):
    found = compared(cpu_context, lambda outputs, call: (outputs[0], outputs[1] * 1.001))
    assert not found.passed
    assert "Output 'embedding'" in found.message
    assert found.outputs[0].relative_l2 <= found.outputs[0].bound
    assert found.outputs[1].relative_l2 == pytest.approx(1e-3, rel=0.01)


def test_an_error_that_cosine_does_not_see_fails(cpu_context):
    found = compared(cpu_context, lambda outputs, call: (outputs[0] * 1.01, outputs[1]))
    assert not found.passed
    assert found.outputs[0].cosine == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_fails_before_anything_else(cpu_context, value):
    def change(outputs, call):
        return replaced((outputs[0] * 2, outputs[1]), 1, (3, 2), value) if call == 3 else outputs

    found = compared(cpu_context, change)
    assert not found.passed
    assert f"Output 'embedding' of batch 3 is {value} at element [3, 2], where the reference is " in found.message
    assert "1 of 16 values are not finite" in found.message
    assert found.outputs == ()


def test_a_missing_output_fails(cpu_context):
    found = compared(cpu_context, lambda outputs, call: outputs[:1])
    assert found.message == "It has 1 outputs, and the reference has 2: logits, embedding."


def test_another_shape_fails(cpu_context):
    found = compared(cpu_context, lambda outputs, call: (outputs[0].T, outputs[1]))
    assert found.message == "Output 'logits' of batch 0 has the shape [10, 4], and the reference has [4, 10]."


def test_integers_are_not_floating_point(cpu_context):
    found = compared(cpu_context, lambda outputs, call: (outputs[0].long(), outputs[1]))
    assert "datatype torch.int64" in found.message


def test_outputs_of_an_earlier_inference_do_not_pass(cpu_context):
    first = []

    def change(outputs, call):
        first.append(tuple(output.clone() for output in outputs))
        return first[0]

    found = compared(cpu_context, change)
    assert not found.passed
    assert "Output 'logits' of batch 1" in found.message
    assert "bit for bit the output of the batch before: nothing was computed" in found.message


def test_outputs_are_copied_before_the_next_inference_overwrites_them(cpu_context):
    """A runner with one static buffer an output, as an engine has."""
    static = []

    def change(outputs, call):
        if not static:
            static.extend(torch.empty_like(output) for output in outputs)
        for buffer, output in zip(static, outputs, strict=True):
            buffer.copy_(output)
        return tuple(static)

    assert compared(cpu_context, change).passed


def test_a_reference_that_does_not_depend_on_the_input_is_refused(cpu_context):
    with pytest.raises(ParityError, match=r"Output 'logits' of 'small' hardly depends on the input.*below 1e-03"):
        compared(cpu_context, varied=False)


def test_a_reference_of_zeros_is_refused(cpu_context):
    with pytest.raises(ParityError, match=r"The float64 'small' gives nothing but zeros in output 'logits'"):
        compared(cpu_context, logit_scale=0.0)


def test_a_precision_in_which_plain_pytorch_overflows_is_refused(cpu_context):
    with pytest.raises(ParityError, match=r"Plain PyTorch's 'small' at fp16 gives \d+ values that are not finite"):
        compared(cpu_context, precision="fp16", logit_scale=1e6)
    assert compared(cpu_context, precision="bf16", logit_scale=1e6).passed


def test_a_precision_in_which_any_answer_would_pass_is_refused(cpu_context):
    """Logits of 1e-8 are denormal in float16: plain PyTorch is wrong by most of their norm."""
    with pytest.raises(ParityError, match=r"at fp16 is itself .* of the norm .* output 'logits'.*more than 0.5"):
        compared(cpu_context, precision="fp16", logit_scale=1e-7)


def test_the_task_metric_is_measured_on_held_out_data(cpu_context):
    found = compared(cpu_context, task=True)
    assert found.passed
    assert found.metrics == {"top1_agreement": 1.0, "top1": 1.0, "top1_reference": 1.0}


def test_a_runner_that_is_wrong_on_held_out_data_alone_fails(cpu_context):
    def change(outputs, call):
        return outputs if call < SETTINGS.batches + 5 else (outputs[0].roll(1, dims=1), outputs[1])

    found = compared(cpu_context, change, task=True)
    assert not found.passed
    assert "Top-1 agreement with the reference is 20.00% on 100 held-out examples, below 99.00%" in found.message
    assert found.metrics["top1"] == pytest.approx(0.2)
    assert all(output.relative_l2 <= output.bound for output in found.outputs)


def test_the_float64_module_is_made_once_for_all_precisions_of_a_shape(cpu_context):
    workload = workload_of()
    for precision in ("fp32", "fp16", "bf16"):
        parity.reference(workload, case_of(precision), SETTINGS, cpu_context)
    assert workload.modules_made == 1 + 1 + 3  # the first, to know it by
    parity.reference(workload, case_of("fp32", batch=8), SETTINGS, cpu_context)
    assert workload.modules_made == 5 + 2


def test_cases_share_a_reference_unless_what_was_quantised_differs():
    def key(backend, precision):
        return parity.reference_key(case_of(precision, backend=backend))

    assert key("eager", "fp16") == key("tensorrt_engine", "fp16") != key("eager", "fp32")
    # An engine's ONNX model has other pairs than ONNX Runtime's, and half precision between them.
    assert len({key(backend, "int8") for backend in ("tensorrt_engine", "onnxruntime", "torch_tensorrt")}) == 3


def test_a_reference_of_another_workload_is_refused(cpu_context):
    workload, case = workload_of(), case_of()
    reference = parity.reference(workload, case, SETTINGS, cpu_context)
    workload.output_names = ("logits",)
    with pytest.raises(ParityError, match="has the outputs logits, embedding, and small has logits"):
        parity.compare(ModuleUnderTest(workload, case), reference, SETTINGS, case, workload, cpu_context)
