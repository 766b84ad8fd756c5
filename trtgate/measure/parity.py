"""Whether a candidate computes what the reference computes, and if not, where it differs.

The error that is allowed is not a guess: it is a small multiple of the error that plain PyTorch makes at the same
precision on the same inputs, with a floor of a few roundings of the datatype (as `torch._dynamo.utils.same` does). Of
quantised cases it is about the error that quantising itself made, as `trtgate.precision.reference` explains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from trtgate.backends.base import BuildContext, Runner
from trtgate.backends.cuda_device import device_memory_of
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import ParityError
from trtgate.measure.placement import infer, on_stream, place
from trtgate.measure.reference import Reference, Tensors, reference, reference_key, relative_l2
from trtgate.policy import ParitySettings
from trtgate.precision import tf32
from trtgate.precision.sqnr import sqnr_of_batches
from trtgate.record import OutputError, Parity
from trtgate.workloads.base import Workload

__all__ = ["Reference", "compare", "place", "reference", "reference_key", "require"]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Outputs of a runner by batch, on the CPU: as they came, and as float64."""

    raw: tuple[Tensors, ...]
    wide: tuple[Tensors, ...]


def compare(
    runner: Runner,
    reference: Reference,
    settings: ParitySettings,
    case: Case,
    workload: Workload,
    context: BuildContext,
) -> Parity:
    """Run a candidate on the reference's batches and compare every output.

    In this order: every output is there; every value is finite; shapes and kinds of datatype; relative L2 error of each
    output in each batch within ``max(factor * yardstick, floor)``; for quantised precisions the signal to quantisation
    noise of each output against float64, at least ``min(min_sqnr_db, the fake-quantised module's - sqnr_loss_db)``; and
    the task metric on held-out data where the workload has one: top-1 agreement with the reference, accuracy as a share
    of the reference's, and for quantised precisions the percentage points of accuracy lost against float64.

    Each batch differs from the one before, and outputs are copied after the stream was waited for, so that outputs of
    an earlier inference cannot pass for this one's. The runner is left bound to the last batch.

    Args:
        runner: the candidate, built with ``context``.
        reference: of `reference_key` of the case.
        settings: tolerances.
        case: the candidate's case.
        workload: the candidate's workload.
        context: the device and stream that the runner was built with.

    Returns:
        The errors of all outputs that could be compared, and in ``message`` the first failure in words.

    Raises:
        OutOfDeviceMemoryError: the inputs do not fit.
        ParityError: the reference is another workload's.
    """
    if reference.names != workload.output_names:
        raise ParityError(
            f"The reference has the outputs {', '.join(reference.names)}, and {case.workload} has "
            f"{', '.join(workload.output_names)}.",
            "Compute the reference of this workload.",
        )
    with device_memory_of(case.id), on_stream(context), tf32.scope(case.precision):
        raw = tuple(_outputs_for(runner, batch, context) for batch in reference.inputs)
        candidate = _Candidate(raw, tuple(tuple(output.double() for output in batch) for batch in raw))
        failures = list(_unusable(candidate, reference))
        if failures:
            return _parity(reference, (), {}, failures)
        errors = tuple(_errors(candidate, reference, settings, case))
        failures += _too_large(errors, candidate, reference, settings, case)
        metrics, noisy = _signal_to_noise(candidate, reference, settings) if case.precision.quantised else ({}, [])
        task, missed = _task(runner, reference, settings, case, context)
        return _parity(reference, errors, metrics | task, [*failures, *noisy, *missed])


def require(parity: Parity, case: Case) -> None:
    """Raise unless a comparison passed.

    Raises:
        ParityError: it did not; the message names the output, the element, both values, the metric and the bound.
    """
    if not parity.passed:
        raise ParityError(
            f"{case.id} does not compute what the reference computes: {parity.message}",
            _next_step(case),
        )


def _next_step(case: Case) -> str:
    """How to narrow a failure down; bisecting needs a backend that shows its intermediate tensors."""
    if case.backend in (BackendName.TENSORRT_ENGINE, BackendName.ONNXRUNTIME):
        return f"Run 'trtgate bisect {case.id}' to find the layer where they part."
    if case.backend is BackendName.TORCH_TENSORRT:
        engine = case.built_by(BackendName.TENSORRT_ENGINE, case.execution)
        return f"Run 'trtgate bisect {engine.id}': the raw engine of this cell shows its layers."
    sequence = f" --sequence-length {case.sequence}" if case.sequence is not None else ""
    eager = (
        f"pytest benchmarks/test_parity.py --workload {case.workload} --backend eager --batch {case.batch}{sequence}"
    )
    if case.backend is BackendName.INDUCTOR:
        return f"Run '{eager} --precision {case.precision}': if eager PyTorch passes, what Inductor generated is wrong."
    if case.precision is not Precision.FP32:
        return f"Run '{eager} --precision fp32': if that passes, the precision is at fault, and not this PyTorch."
    return "Run 'trtgate doctor': plain PyTorch at fp32 is not right on this machine, so nothing else can be judged."


def _outputs_for(runner: Runner, inputs: Sequence[torch.Tensor], context: BuildContext) -> Tensors:
    runner.bind(place(inputs, context))
    infer(runner, context)
    return tuple(output.detach().to("cpu", copy=True) for output in runner.outputs())


def _parity(
    reference: Reference, errors: tuple[OutputError, ...], metrics: dict[str, float], failures: Sequence[str]
) -> Parity:
    return Parity(
        passed=not failures,
        reference=reference.kind,
        batches=len(reference.inputs),
        outputs=errors,
        metrics=metrics,
        message=failures[0] if failures else "",
    )


def _unusable(candidate: _Candidate, reference: Reference) -> Iterator[str]:
    """Why outputs cannot be compared at all: missing, not finite, of another shape or kind."""
    names = reference.names
    for outputs in candidate.raw:
        if len(outputs) != len(names):
            yield f"It has {len(outputs)} outputs, and the reference has {len(names)}: {', '.join(names)}."
            return
    for number, outputs in enumerate(candidate.raw):
        for name, got, right in zip(names, outputs, reference.outputs[number], strict=True):
            wrong = ~got.isfinite()
            if wrong.any():
                at = _position(int(wrong.flatten().int().argmax()), got)
                expected = f"the reference is {right[at].item():.6g}" if got.shape == right.shape else "it may not be"
                yield (
                    f"Output '{name}' of batch {number} is {got[at].item()} at element {list(at)}, where {expected}; "
                    f"{int(wrong.sum())} of {got.numel()} values are not finite."
                )
    for number, outputs in enumerate(candidate.raw):
        for name, got, right in zip(names, outputs, reference.outputs[number], strict=True):
            if got.shape != right.shape:
                yield (
                    f"Output '{name}' of batch {number} has the shape {list(got.shape)}, and the reference has "
                    f"{list(right.shape)}."
                )
            elif not got.is_floating_point():
                yield f"Output '{name}' has the datatype {got.dtype}, and the reference is floating-point."


def _errors(candidate: _Candidate, reference: Reference, settings: ParitySettings, case: Case) -> Iterator[OutputError]:
    tolerance = settings.tolerance[case.precision]
    for index, name in enumerate(reference.names):
        pairs = [(got[index], right[index]) for got, right in zip(candidate.wide, reference.outputs, strict=True)]
        yield OutputError(
            name=name,
            relative_l2=max(relative_l2(got, right) for got, right in pairs),
            yardstick=reference.yardstick[index],
            bound=max(tolerance.factor * reference.yardstick[index], tolerance.floor),
            max_abs=max(float((got - right).abs().max()) for got, right in pairs),
            cosine=min(_cosine(got, right) for got, right in pairs),
        )


def _too_large(
    errors: Sequence[OutputError],
    candidate: _Candidate,
    reference: Reference,
    settings: ParitySettings,
    case: Case,
) -> Iterator[str]:
    """One sentence an output and batch whose error is beyond its bound."""
    tolerance = settings.tolerance[case.precision]
    whose = "plain PyTorch's" if reference.kind == "float64" else "the fake-quantised module's distance from float64,"
    for index, error in enumerate(errors):
        if error.relative_l2 <= error.bound:
            continue
        for number, (outputs, rights) in enumerate(zip(candidate.wide, reference.outputs, strict=True)):
            got, right = outputs[index], rights[index]
            found = relative_l2(got, right)
            if found <= error.bound:
                continue
            at = _position(int((got - right).abs().argmax()), got)
            stale = number > 0 and torch.equal(got, candidate.wide[number - 1][index])
            yield (
                f"Output '{error.name}' of batch {number}: relative L2 error {found:.3g} is beyond the bound "
                f"{error.bound:.3g} (the larger of {tolerance.factor:g} times {whose} {error.yardstick:.3g} "
                f"and {tolerance.floor:g}); worst at element {list(at)}: candidate {got[at].item():.6g}, reference "
                f"{right[at].item():.6g}."
                + (" It is bit for bit the output of the batch before: nothing was computed." if stale else "")
            )


def _signal_to_noise(
    candidate: _Candidate, reference: Reference, settings: ParitySettings
) -> tuple[dict[str, float], list[str]]:
    """Decibels above float64's difference, over all batches, and which outputs have too few.

    A model whose quantised weights are this noisy by themselves is not the engine's fault, so the engine is held to the
    fake-quantised module where that is below the absolute limit.
    """
    outputs = range(len(reference.names))
    found = [sqnr_of_batches(reference.exact, candidate.wide, index) for index in outputs]
    own = [sqnr_of_batches(reference.exact, reference.outputs, index) for index in outputs]
    failures = []
    for name, decibels, best in zip(reference.names, found, own, strict=True):
        least = min(settings.min_sqnr_db, best - settings.sqnr_loss_db)
        if decibels < least:
            failures.append(
                f"Output '{name}': the signal is {decibels:.1f} dB above the noise against float64, below {least:.1f} "
                f"dB (the smaller of {settings.min_sqnr_db:g} dB and {settings.sqnr_loss_db:g} dB less than the "
                f"{best:.1f} dB of the fake-quantised module itself)."
            )
    return {"sqnr_db": min(found), "fake_quantised_sqnr_db": min(own)}, failures


def _task(
    runner: Runner, reference: Reference, settings: ParitySettings, case: Case, context: BuildContext
) -> tuple[dict[str, float], list[str]]:
    """Metrics of the task and what they miss; nothing where the workload has no task."""
    evaluation = reference.evaluation
    if evaluation is None:
        return {}, []
    logits = torch.cat([_outputs_for(runner, (batch,), context)[0].double() for batch in evaluation.inputs])
    if not logits.isfinite().all():
        return {}, [f"Output '{reference.names[0]}' is not finite on the held-out data."]
    answers = logits.argmax(-1)
    metrics = {
        "top1_agreement": float((answers == evaluation.answers).double().mean()),
        "top1": float((answers == evaluation.labels).double().mean()),
        "top1_reference": float((evaluation.answers == evaluation.labels).double().mean()),
    }
    least = settings.top1_agreement
    missed = []
    if metrics["top1_agreement"] < least:
        missed.append(
            f"Top-1 agreement with the reference is {metrics['top1_agreement']:.2%} on {len(answers)} held-out "
            f"examples, below {least:.2%}."
        )
    if metrics["top1"] < least * metrics["top1_reference"]:
        missed.append(
            f"Top-1 accuracy is {metrics['top1']:.2%} on {len(answers)} held-out examples, below {least:.2%} of the "
            f"reference's {metrics['top1_reference']:.2%}."
        )
    if case.precision.quantised:
        # The fake-quantised model agrees with an engine however much accuracy both have lost.
        right, exact = (int((found == evaluation.labels).sum()) for found in (answers, evaluation.exact))
        metrics["top1_float64"] = exact / len(answers)
        lost_points = metrics["top1_drop_points"] = 100 * (exact - right) / len(answers)
        if lost_points > settings.max_top1_drop_points:
            missed.append(
                f"Top-1 accuracy is {metrics['top1']:.2%} on {len(answers)} held-out examples, {lost_points:.2f} "
                f"points below float64's {metrics['top1_float64']:.2%}; {settings.max_top1_drop_points:g} may be lost."
            )
    return metrics, missed


def _cosine(got: torch.Tensor, right: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(got.flatten(), right.flatten(), dim=0))


def _position(flat: int, tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(int(axis) for axis in torch.unravel_index(torch.tensor(flat), tensor.shape))
