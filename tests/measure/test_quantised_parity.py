"""A quantised engine may differ from its reference by about the noise that quantising made, and not by more."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_workload import ModuleUnderTest, SmallWorkload, case_of

from trtgate.backends.base import BuildContext, Runner
from trtgate.case import Precision
from trtgate.errors import ParityError
from trtgate.measure import parity
from trtgate.measure.reference import Evaluation, Reference, relative_l2
from trtgate.measure.timing import BuildStopwatch
from trtgate.policy import ParitySettings, ParityTolerance

SETTINGS = ParitySettings()


class Given(Runner):
    """Computes nothing: one batch's outputs after the other."""

    def __init__(self, batches):
        super().__init__()
        self.batches = iter(batches)

    def bind(self, inputs):
        self.result = next(self.batches)

    def enqueue(self):
        pass

    def outputs(self):
        return self.result

    def close(self):
        self.result = ()


def noise(like, share, seed):
    """Gaussian noise of a share of a tensor's norm."""
    drawn = torch.randn(like.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn * (share * torch.linalg.vector_norm(like) / torch.linalg.vector_norm(drawn))


def quantised_reference(own_sqnr_db):
    """A fake-quantised model of two outputs so many decibels above its noise; its own noise by batch and output."""
    share = 10 ** (-own_sqnr_db / 20)
    exact = tuple((noise(torch.ones(8, 1000), 1, seed), noise(torch.ones(8, 64), 1, 9 + seed)) for seed in range(4))
    own = tuple(tuple(noise(right, share, 100 + seed) for right in batch) for seed, batch in enumerate(exact))
    outputs = tuple(tuple(map(torch.add, *pair)) for pair in zip(exact, own, strict=True))
    inputs = tuple((torch.zeros(8, 1),) for _ in exact)
    names = SmallWorkload.output_names
    return Reference("fake_quantised", names, inputs, outputs, exact, (share, share), None), own


def judged(reference, batches, context, settings=SETTINGS):
    """`batches` as a candidate's outputs at int8."""
    return parity.compare(
        Given(batches), reference, settings, case_of("int8", backend="torch_tensorrt"), SmallWorkload(), context
    )


def each(change, *sources):
    """`change(outputs of the sources, batch number)` for every output of every batch."""
    return [
        tuple(change(*tensors, number) for tensors in zip(*batches, strict=True))
        for number, batches in enumerate(zip(*sources, strict=True))
    ]


MEASURED_OWN_DB = [13.7, 19.6, 23.0]  # resnet18 in fp8, the transformer and resnet18 in int8, with random weights


@pytest.mark.parametrize("own_db", [*MEASURED_OWN_DB, 60.0])
def test_a_quantised_reference_passes_itself_however_noisy_its_weights_are(cpu_context, own_db):
    reference, _ = quantised_reference(own_db)
    found = judged(reference, reference.outputs, cpu_context)
    assert found.passed, found.message
    assert found.metrics["sqnr_db"] == found.metrics["fake_quantised_sqnr_db"] == pytest.approx(own_db)


@pytest.mark.parametrize("own_db", MEASURED_OWN_DB)
def test_a_candidate_whose_roundings_fell_otherwise_passes(cpu_context, own_db):
    """As far from float64 as the reference is, sharing 63% of its noise: 0.86 of that noise apart, as was measured."""
    reference, own = quantised_reference(own_db)
    share = reference.yardstick[0]

    def otherwise(exact, noise_of_reference, number):
        shared = 1 - 0.86**2 / 2
        return exact + shared * noise_of_reference + noise(exact, share * (1 - shared**2) ** 0.5, 200 + number)

    found = judged(reference, each(otherwise, reference.exact, own), cpu_context)
    assert found.passed, found.message
    for output in found.outputs:
        assert output.relative_l2 == pytest.approx(0.86 * share, rel=0.1)
        assert output.bound == pytest.approx(1.25 * share)
    assert found.metrics["sqnr_db"] == pytest.approx(own_db, abs=0.5)


@pytest.mark.parametrize("own_db", MEASURED_OWN_DB)
@pytest.mark.parametrize("wrong", [0.5, 2.0, 2.6, -1.0, 0.0])
def test_a_quantised_candidate_of_another_size_fails(cpu_context, own_db, wrong):
    reference, _ = quantised_reference(own_db)
    batches = each(lambda right, number: right * wrong, reference.outputs)
    found = judged(reference, batches, cpu_context)
    assert found.message.startswith("Output 'logits' of batch 0: relative L2 error ")
    assert "the larger of 1.25 times the fake-quantised module's distance from float64, 0." in found.message
    assert "Output 'logits': the signal is" not in found.message  # the first failure alone


def test_one_infinity_of_a_quantised_candidate_fails(cpu_context):
    reference, _ = quantised_reference(13.7)
    batches = each(lambda right, number: right.clone(), reference.outputs)
    batches[2][1][3, 5] = float("inf")
    found = judged(reference, batches, cpu_context)
    assert "Output 'embedding' of batch 2 is inf at element [3, 5]" in found.message


def test_a_shallow_quantised_model_is_held_to_the_floor(cpu_context):
    reference, _ = quantised_reference(60.0)
    near, far = (
        judged(
            reference,
            each(lambda right, number, share=share: right + noise(right, share, number), reference.outputs),
            cpu_context,
        )
        for share in (0.019, 0.021)
    )
    assert near.passed, near.message
    assert "beyond the bound 0.02 " in far.message


@pytest.mark.parametrize(("own_db", "least"), [(13.7, 10.7), (19.6, 16.6), (23.0, 20.0), (60.0, 20.0)])
@pytest.mark.parametrize("index", [0, 1])
def test_each_output_may_lose_some_decibels_of_a_noisy_model_and_none_below_twenty(cpu_context, own_db, least, index):
    """Under a bound that allows any relative error, the decibels alone decide."""
    reference, _ = quantised_reference(own_db)
    lenient = ParitySettings(tolerance={Precision.INT8: ParityTolerance(factor=1e3, floor=1e3)})

    def at(decibels):
        share = 10 ** (-decibels / 20)
        batches = [
            tuple(
                right + noise(right, share, 300 + number) if place == index else kept
                for place, (right, kept) in enumerate(zip(exact, outputs, strict=True))
            )
            for number, (exact, outputs) in enumerate(zip(reference.exact, reference.outputs, strict=True))
        ]
        return judged(reference, batches, cpu_context, lenient)

    assert at(least + 0.1).passed
    message = at(least - 0.1).message
    assert message.startswith(f"Output '{reference.names[index]}': the signal is {least - 0.1:.1f} dB above the noise")
    assert f"below {least:.1f} dB (the smaller of 20 dB and 3 dB less than the {own_db:.1f} dB of the fake" in message


@pytest.mark.parametrize(("lost", "passes"), [(0, True), (5, True), (6, False), (-3, True)])
def test_accuracy_lost_by_reference_and_candidate_alike_is_held_against_float64(cpu_context, lost, passes):
    """The candidate is its reference bit for bit; 990 of 1,000 answers of float64 are right."""
    reference, _ = quantised_reference(60.0)
    labels = torch.arange(1000) % 10
    exact, answers = labels.clone(), labels.clone()
    exact[:10] = answers[: 10 + lost] = 10
    logits = torch.nn.functional.one_hot(answers, 11).double()
    evaluation = Evaluation((torch.zeros(1000, 1),), labels, answers, exact)
    found = judged(replace(reference, evaluation=evaluation), [*reference.outputs, (logits,)], cpu_context)
    assert found.passed is passes
    assert found.metrics["top1_agreement"] == 1.0
    assert found.metrics["top1_float64"] == 0.99
    assert found.metrics["top1"] == found.metrics["top1_reference"] == pytest.approx(0.99 - lost / 1000)
    assert found.metrics["top1_drop_points"] == pytest.approx(lost / 10)
    if not passes:
        assert found.message == (
            "Top-1 accuracy is 98.40% on 1000 held-out examples, 0.60 points below float64's 99.00%; 0.5 may be lost."
        )
    lenient = ParitySettings(max_top1_drop_points=1.0)
    again = judged(replace(reference, evaluation=evaluation), [*reference.outputs, (logits,)], cpu_context, lenient)
    assert again.passed


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """An int8 workload, its reference and the module that it was computed with, in float32."""
    pytest.importorskip("modelopt")
    from trtgate.precision.quantise_torch import fake_quantised

    context = BuildContext(torch.device("cpu"), None, tmp_path_factory.mktemp("quantised"), BuildStopwatch())
    workload, case = SmallWorkload(task=True, fingerprint="small, quantised"), case_of("int8", backend="torch_tensorrt")
    reference = parity.reference(workload, case, SETTINGS, context)

    def candidate(change=lambda module: None):
        runner = ModuleUnderTest(workload, case_of("fp32"))
        runner.module = fake_quantised(workload, case.precision, context.cache, context.device)
        change(runner.module)
        return runner

    def judge(runner, settings=SETTINGS):
        return parity.compare(runner, reference, settings, case, workload, context)

    return SimpleNamespace(
        workload=workload, case=case, context=context, reference=reference, candidate=candidate, judge=judge
    )


@pytest.mark.slow
def test_a_quantised_case_is_compared_with_the_fake_quantised_module(quantised):
    reference = quantised.reference
    assert reference.kind == "fake_quantised"
    found = quantised.judge(quantised.candidate(), ParitySettings(max_top1_drop_points=5))
    assert found.passed, found.message
    # Labels of a random net lie close together: int8 costs it two of a hundred, which the default does not allow.
    assert found.metrics["top1_drop_points"] == 2
    assert "2.00 points below float64's 100.00%" in quantised.judge(quantised.candidate()).message
    assert found.outputs[0].relative_l2 < 1e-3
    assert 20 < found.metrics["sqnr_db"] < 60
    assert found.metrics["fake_quantised_sqnr_db"] == pytest.approx(found.metrics["sqnr_db"], abs=0.5)
    for index, output in enumerate(found.outputs):
        apart = [
            relative_l2(got[index], right[index]) for got, right in zip(reference.outputs, reference.exact, strict=True)
        ]
        assert output.yardstick == reference.yardstick[index] == max(apart) > 1e-3
    # Nearly right is not the same computation: the model that was never quantised is nearer to float64, and fails.
    tight = ParitySettings(tolerance={Precision.INT8: ParityTolerance(factor=1e-3, floor=1e-3)})
    assert not quantised.judge(ModuleUnderTest(quantised.workload, case_of("fp32")), tight).passed


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_wrong_scales_fail(quantised, factor):
    """Ranges too narrow clip, and too wide ones leave three bits fewer."""

    def rescale(module):
        ranges = [part for part in module.modules() if getattr(part, "amax", None) is not None]
        assert len(ranges) == 6  # of the inputs and weights of three layers
        for part in ranges:
            part.amax = part.amax * factor

    found = quantised.judge(quantised.candidate(rescale))
    assert "relative L2 error" in found.message
    assert found.metrics["sqnr_db"] < found.metrics["fake_quantised_sqnr_db"] - 3


@pytest.mark.slow
def test_a_quantised_model_in_which_any_answer_would_pass_is_refused(quantised):
    hardly = ParitySettings(max_bound=1e-3)
    with pytest.raises(
        ParityError, match=r"The fake-quantised 'small' is itself .* in output 'logits'; 1.25 times that"
    ):
        parity.reference(quantised.workload, quantised.case, hardly, quantised.context)
