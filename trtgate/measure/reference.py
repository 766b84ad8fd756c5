"""What a candidate's outputs are compared with, computed once for all cases of a workload, precision and shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import torch

from trtgate.backends.base import BuildContext
from trtgate.backends.cuda_device import device_memory_of
from trtgate.backends.module_runner import flatten
from trtgate.case import BackendName, Case
from trtgate.errors import ParityError
from trtgate.measure.placement import on_stream, place
from trtgate.policy import ParitySettings
from trtgate.policy.parity import SqnrFloor
from trtgate.precision import tf32
from trtgate.precision.cast import cast_inputs, prepare
from trtgate.precision.reference import reference_for
from trtgate.precision.sqnr import sqnr_of_batches
from trtgate.workloads.base import Workload
from trtgate.workloads.conditioning import spread

Tensors: TypeAlias = tuple[torch.Tensor, ...]

_MEANINGLESS = "A comparison would be meaningless: change the workload's weights or inputs."
_GROUPS_KEPT = 4  # the precisions of one workload at two shapes; a group of images takes up to 50 MB of host memory


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out data with labels, a whole number of batches.

    Attributes:
        inputs: one tensor a batch, on the CPU.
        labels: class indices, shape (examples,).
        answers: the reference's top-1 classes, shape (examples,).
        exact: the float64 module's, shape (examples,); the same as ``answers`` unless quantised.
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    answers: torch.Tensor
    exact: torch.Tensor


@dataclass(frozen=True, slots=True)
class Reference:
    """Inputs, and what a candidate has to make of them. All tensors are on the CPU.

    Attributes:
        kind: float64 module, or the fake-quantised one.
        names: of the outputs.
        inputs: by batch, in the workload's order.
        outputs: by batch and output, float64.
        exact: outputs of the float64 module; the same as ``outputs`` unless quantised.
        yardstick: relative L2 error against float64, worst batch, by output: that of plain PyTorch at this precision,
            or of the fake-quantised module, which is the noise that quantising itself made. Zero would be wrong there:
            a deep model amplifies the last bit of a sum to about that noise (see `trtgate.precision.reference`).
        evaluation: data for the task metric, None where the workload has no task.
    """

    kind: Literal["float64", "fake_quantised"]
    names: tuple[str, ...]
    inputs: tuple[Tensors, ...]
    outputs: tuple[Tensors, ...]
    exact: tuple[Tensors, ...]
    yardstick: tuple[float, ...]
    evaluation: Evaluation | None


def reference_key(case: Case) -> tuple[str, ...]:
    """Cases of equal keys share a reference. Each backend has a quantised model of its own."""
    key = (case.workload, case.precision.value, case.shape)
    return (*key, case.backend.value) if case.precision.quantised else key


def reference(workload: Workload, case: Case, settings: ParitySettings, context: BuildContext) -> Reference:
    """Compute the reference of a case.

    The float64 outputs are kept for the workload's other precisions. Modules are moved to the device one at a time and
    dropped.

    Args:
        workload: what is measured.
        case: precision and shape; for quantised precisions the backend too.
        settings: how many batches of how much variety.
        context: device, stream and cache.

    Raises:
        ParityError: the reference is not finite or hardly depends on its inputs, the yardstick is so large that it
            allows anything, or a quantised model is noisier than the policy's floor for it allows.
        OutOfDeviceMemoryError: the float64 module does not fit.
        BackendAbsentError, CalibrationError, ExportError: from quantising.
    """
    exact = _exact(_Group.of(workload, case, settings, context))
    names = workload.output_names
    if case.precision.quantised:
        from trtgate.backends import onnx_export  # brings onnx, which only quantised cases need here

        run = reference_for(
            workload,
            case,
            context.cache,
            lambda: onnx_export.export(workload, case, context.cache, context.stopwatch, context.calibration),
            context.calibration,
        )
        outputs = tuple(_wide(run(batch)) for batch in exact.inputs)
        # An ONNX file has the case's batch size. A module takes all at once, which on a CPU saves a minute at batch 1.
        together = case.backend is BackendName.TORCH_TENSORRT
        evaluation = _evaluated(exact.evaluation, lambda batch: run((batch,)), together=together)
        whose = f"The fake-quantised '{workload.name}'"
        _require_finite(outputs, names, whose)
        yardstick = _worst(outputs, exact.outputs)
        _require_tight(yardstick, names, whose, case, settings)
        _require_calibrated(outputs, exact.outputs, names, whose, settings.sqnr_floor_for(case))
        return Reference("fake_quantised", names, exact.inputs, outputs, exact.outputs, yardstick, evaluation)
    plain = _outputs_of(
        lambda: prepare(workload, case.precision, case.batch, case.sequence),
        (cast_inputs(batch, case.precision) for batch in exact.inputs),
        case,
        context,
    )
    whose = f"Plain PyTorch's '{workload.name}' at {case.precision}"
    _require_finite(plain, names, whose)
    yardstick = _worst(plain, exact.outputs)
    _require_tight(yardstick, names, whose, case, settings)
    return Reference("float64", names, exact.inputs, exact.outputs, exact.outputs, yardstick, exact.evaluation)


def relative_l2(candidate: torch.Tensor, right: torch.Tensor) -> float:
    """``norm(candidate - right) / norm(right)`` in float64; ``right`` is not zero."""
    return float(torch.linalg.vector_norm(candidate - right) / torch.linalg.vector_norm(right))


def _worst(batches: tuple[Tensors, ...], exact: tuple[Tensors, ...]) -> tuple[float, ...]:
    """Relative L2 error by output, of the batch where it is largest."""
    by_batch = [
        [relative_l2(got, right) for got, right in zip(outputs, rights, strict=True)]
        for outputs, rights in zip(batches, exact, strict=True)
    ]
    return tuple(max(errors) for errors in zip(*by_batch, strict=True))


@dataclass(frozen=True, slots=True)
class _Exact:
    """The float64 module's part of a reference."""

    inputs: tuple[Tensors, ...]
    outputs: tuple[Tensors, ...]
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class _Group:
    """What float64 outputs depend on; equal groups are computed once."""

    fingerprint: str
    shape: str
    batches: int
    examples: int
    min_spread: float
    device: str
    workload: Workload = field(compare=False)
    case: Case = field(compare=False)
    context: BuildContext = field(compare=False)

    @classmethod
    def of(cls, workload: Workload, case: Case, settings: ParitySettings, context: BuildContext) -> _Group:
        return cls(
            workload.model_key,
            case.shape,
            settings.batches,
            settings.evaluation_examples,
            settings.min_logit_spread,
            str(context.device),
            workload,
            case,
            context,
        )


@lru_cache(maxsize=_GROUPS_KEPT)
def _exact(group: _Group) -> _Exact:
    workload, case = group.workload, group.case
    inputs = tuple(workload.inputs(case.batch, case.sequence, seed) for seed in range(group.batches))
    held_out = _held_out(workload, case.batch, group.examples)
    batches = [*inputs, *((batch,) for batch in held_out[0])] if held_out else list(inputs)
    everything = _outputs_of(
        lambda: workload.module().double(), (_widened(batch) for batch in batches), case, group.context
    )
    outputs = everything[: len(inputs)]
    _require_finite(outputs, workload.output_names, f"The float64 '{workload.name}'")
    _require_variety(outputs, workload, group.min_spread)
    answers = torch.cat([batch[0].argmax(-1) for batch in everything[len(inputs) :]]) if held_out else None
    evaluation = Evaluation(held_out[0], held_out[1], answers, answers) if held_out and answers is not None else None
    return _Exact(inputs, outputs, evaluation)


def _outputs_of(
    make: Callable[[], torch.nn.Module], batches: Iterable[Tensors], case: Case, context: BuildContext
) -> tuple[Tensors, ...]:
    """Run a module on the context's device, one batch at a time; its outputs as float64 on the CPU."""
    made = make()  # outside inference mode: a workload may train, or keep tensors for later
    with device_memory_of(f"The reference of {case.id}"), on_stream(context), tf32.scope(case.precision):
        module = made.to(context.device)
        return tuple(_wide(flatten(module(*place(batch, context)))) for batch in batches)


def _held_out(workload: Workload, batch: int, examples: int) -> tuple[Tensors, torch.Tensor] | None:
    """Evenly spread examples of the evaluation set, cut into whole batches; cycled where a batch is larger than it."""
    data = workload.evaluation()
    if data is None:
        return None
    inputs, labels = data
    count = max(1, min(examples, len(labels)) // batch) * batch
    chosen = torch.arange(count) * max(1, len(labels) // count) % len(labels)
    return torch.split(inputs[chosen], batch), labels[chosen]


def _evaluated(
    evaluation: Evaluation | None, run: Callable[[torch.Tensor], Tensors], *, together: bool
) -> Evaluation | None:
    """The same data with another model's answers."""
    if evaluation is None:
        return None
    batches = (torch.cat(evaluation.inputs),) if together else evaluation.inputs
    return replace(evaluation, answers=torch.cat([run(batch)[0].argmax(-1) for batch in batches]))


def _require_finite(batches: tuple[Tensors, ...], names: tuple[str, ...], whose: str) -> None:
    for number, outputs in enumerate(batches):
        if len(outputs) != len(names):
            raise ParityError(
                f"{whose} has {len(outputs)} outputs and the workload names {len(names)} ({', '.join(names)}).",
                "Correct the workload's output_names.",
            )
        for name, output in zip(names, outputs, strict=True):
            wrong = int((~output.isfinite()).sum())
            if wrong or not output.any():
                what = f"{wrong} values that are not finite" if wrong else "nothing but zeros"
                raise ParityError(f"{whose} gives {what} in output '{name}' of batch {number}.", _MEANINGLESS)


def _require_variety(batches: tuple[Tensors, ...], workload: Workload, least: float) -> None:
    for index, name in enumerate(workload.output_names):
        found = spread(torch.cat([outputs[index] for outputs in batches]))
        if found < least:
            raise ParityError(
                f"Output '{name}' of '{workload.name}' hardly depends on the input: its spread over all examples is "
                f"{found:.1e} of its magnitude, below {least:.0e}.",
                _MEANINGLESS,
            )


def _require_tight(
    yardstick: tuple[float, ...], names: tuple[str, ...], whose: str, case: Case, settings: ParitySettings
) -> None:
    """Refuse a yardstick under which a candidate that ignores its input could pass."""
    factor = settings.tolerance[case.precision].factor
    for name, error in zip(names, yardstick, strict=True):
        if not math.isfinite(error) or factor * error > settings.max_bound:
            raise ParityError(
                f"{whose} is itself {error:.2g} of the norm away from float64 in output '{name}'; {factor:g} times "
                f"that would allow more than {settings.max_bound:g}.",
                _MEANINGLESS,
            )


def _require_calibrated(
    batches: tuple[Tensors, ...],
    exact: tuple[Tensors, ...],
    names: tuple[str, ...],
    whose: str,
    floor: SqnrFloor | None,
) -> None:
    """Refuse a fake-quantised model that has got worse: every engine of it would be held to less."""
    for index, name in enumerate(names) if floor is not None else ():
        found = sqnr_of_batches(exact, batches, index)
        if floor is not None and found < floor.at_least_db:
            raise ParityError(
                f"{whose} is only {found:.1f} dB above its noise against float64 in output '{name}', below the floor "
                f"of {floor.at_least_db:g} dB ({floor.reason}).",
                "Compare its calibration and the quantiser's version with those of the last row that passed.",
            )


def _widened(inputs: Tensors) -> Tensors:
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)


def _wide(outputs: Iterable[torch.Tensor]) -> Tensors:
    return tuple(output.detach().to("cpu", torch.float64) for output in outputs)
