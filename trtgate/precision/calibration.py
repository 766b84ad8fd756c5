"""Calibration data: which examples set the ranges of a quantised model, and whether they can be trusted to.

A range that comes from broken data gives an engine that builds, runs, and is wrong. So the data is checked before
ModelOpt sees it: one tensor an input, the shape and datatype that the workload itself feeds, finite, not empty, and not
constant.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from trtgate.case import Precision
from trtgate.errors import CalibrationError, TrtgateError
from trtgate.policy.calibration import CalibrationSettings
from trtgate.policy.calibration import Method as Method
from trtgate.policy.calibration import Placement as Placement

if TYPE_CHECKING:
    import torch

    from trtgate.workloads.base import Workload


@dataclass(frozen=True, slots=True)
class CalibrationSpec:
    """What decides a calibration; part of every cache key and every report.

    Args:
        count: examples (not batches) of the workload's own data.
        seed: which of the workload's seeded calibration sets.
        method: how ranges are chosen.
        placement: which nodes of an engine's model are quantised.

    Raises:
        CalibrationError: a count below 1.
    """

    count: int = 64
    seed: int = 0
    method: Method = Method.MAX
    placement: Placement = Placement.TENSORRT

    def __post_init__(self) -> None:
        if self.count < 1:
            raise CalibrationError(
                f"The calibration count is {self.count}.", "Calibrate with at least 1 example; 64 is the default."
            )

    @classmethod
    def of(cls, settings: CalibrationSettings) -> CalibrationSpec:
        """What a policy says."""
        return cls(settings.count, settings.seed, settings.method, settings.placement)

    def for_precision(self, precision: Precision) -> CalibrationSpec:
        """The same for a row of this precision: fp8, for which entropy means nothing, keeps the maximum."""
        return replace(self, method=Method.MAX) if precision is Precision.FP8 else self

    def to_json(self) -> dict[str, object]:
        """Plain JSON types."""
        return asdict(self)


_MAX_SAID: Final = 500
_COLLECTED: Final[WeakKeyDictionary[Workload, dict[tuple[int, int, int | None], CalibrationData]]] = WeakKeyDictionary()


def refuse_entropy_for_fp8(spec: CalibrationSpec) -> None:
    """Refuse a method that fp8 cannot use.

    Raises:
        CalibrationError: the method is entropy.
    """
    if spec.method is Method.ENTROPY:
        raise CalibrationError(
            "Entropy calibration was asked for fp8; it searches thresholds for evenly spaced integer levels, which fp8 "
            "does not have.",
            "Calibrate fp8 with the method 'max'.",
        )


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """Checked examples.

    Attributes:
        tensors: one CPU tensor an input, examples in the first dimension.
        sha256: digest of the data, its shapes and datatypes.
    """

    tensors: tuple[torch.Tensor, ...]
    sha256: str


def collect(workload: Workload, spec: CalibrationSpec, sequence: int | None) -> CalibrationData:
    """The workload's calibration data, checked.

    A workload object is asked once for the same data, which is then kept as long as the object lives: 64 pictures take
    six seconds to make, and a cell asks for them at each of its builds.

    Args:
        workload: whose data.
        spec: how many examples, and the seed.
        sequence: tokens an input, or None.

    Returns:
        The data with its digest, without which no cache may be asked for what was made of it.

    Raises:
        CalibrationError: the workload raised something, or see `validate`.
        TrtgateError: whatever the workload raises by itself, such as data that cannot be had.
    """
    try:
        kept = _COLLECTED.setdefault(workload, {})
    except TypeError:  # one that cannot be hashed, such as a plain dataclass, is asked each time
        kept = {}
    key = (spec.count, spec.seed, sequence)
    if key not in kept:
        tensors = _asked(workload, spec, sequence)
        validate(workload, tensors, workload.inputs(1, sequence, seed=0))
        kept[key] = CalibrationData(tensors, digest(tensors))
    return kept[key]


def _asked(workload: Workload, spec: CalibrationSpec, sequence: int | None) -> tuple[torch.Tensor, ...]:
    import torch

    try:
        given = workload.calibration_inputs(spec.count, sequence, spec.seed)
    except (TrtgateError, torch.OutOfMemoryError):
        raise  # these say by themselves what is wrong
    except Exception as error:  # a project's own code, which raises anything
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_SAID].rstrip(".: ")
        raise CalibrationError(
            f"calibration_inputs of '{workload.name}' raised {said}.",
            "Correct the workload, or measure it in a precision that needs no calibration, such as fp16.",
        ) from error
    if not isinstance(given, (tuple, list)):
        raise CalibrationError(
            f"calibration_inputs of '{workload.name}' returned a {type(given).__name__}.",
            f"Return a tuple of one tensor an input ({', '.join(workload.input_names)}).",
        )
    return tuple(given)


def validate(workload: Workload, tensors: Sequence[torch.Tensor], example: Sequence[torch.Tensor]) -> None:
    """Refuse data that would set wrong ranges.

    Args:
        workload: whose inputs they are; its names go into the messages.
        tensors: calibration data, one tensor an input.
        example: a batch that the model takes; shapes (but for the first dimension) and datatypes must match it.

    Raises:
        CalibrationError: not a sequence of tensors, a wrong number of inputs, no examples, a wrong shape, datatype or
            device, inputs with different numbers of examples, NaN or infinity, or a floating-point input that is
            constant over all examples.
    """
    import torch

    if len(tensors) != len(example):
        raise CalibrationError(
            f"'{workload.name}' takes {len(example)} inputs ({', '.join(workload.input_names)}) and its calibration "
            f"data has {len(tensors)}.",
            "Return one tensor an input, in that order, from calibration_inputs.",
        )
    for name, tensor, like in zip(workload.input_names, tensors, example, strict=True):
        if not isinstance(tensor, torch.Tensor):
            raise CalibrationError(
                f"Calibration data for input '{name}' of '{workload.name}' is a {type(tensor).__name__}.",
                "Return a torch.Tensor with the examples in its first dimension, such as torch.stack gives of a list.",
            )
        _validate_one(workload.name, name, tensor, like)
    counts = {name: tensor.shape[0] for name, tensor in zip(workload.input_names, tensors, strict=True)}
    if len(set(counts.values())) > 1:
        raise CalibrationError(
            f"The calibration inputs of '{workload.name}' have different numbers of examples ({counts}).",
            "Give every input the same number of examples.",
        )


def _validate_one(workload: str, name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    what = f"Calibration data for input '{name}' of '{workload}'"
    if tensor.ndim == 0 or tensor.shape[0] == 0 or tensor.numel() == 0:
        raise CalibrationError(f"{what} is empty (shape {list(tensor.shape)}).", "Supply at least one example.")
    if tensor.shape[1:] != like.shape[1:]:
        raise CalibrationError(
            f"{what} has shape {list(tensor.shape)}, but the model takes {['N', *like.shape[1:]]}.",
            "Preprocess the calibration data exactly as the data for inference.",
        )
    if tensor.dtype != like.dtype:
        raise CalibrationError(
            f"{what} is {_short(tensor)}, but the model takes {_short(like)}.",
            f"Convert it with '.to(torch.{_short(like)})'.",
        )
    if tensor.device.type != "cpu":
        raise CalibrationError(f"{what} is on {tensor.device}.", "Return it on the CPU, where calibration runs.")
    if not tensor.is_floating_point():
        return
    finite = tensor.isfinite()
    if not bool(finite.all()):
        broken = int((~finite).sum())
        first = (~finite).nonzero()[0].tolist()
        raise CalibrationError(
            f"{what} has {broken} values that are not finite, the first ({tensor[tuple(first)].item()}) at {first}.",
            "Remove those examples: one of them would set a range to infinity.",
        )
    if bool((tensor == tensor.flatten()[0]).all()):
        raise CalibrationError(
            f"{what} is the constant {tensor.flatten()[0].item()}.",
            "Use realistic examples: the ranges of a constant input say nothing about real ones.",
        )


def batches(tensors: Sequence[torch.Tensor], batch: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Cut examples into batches of exactly ``batch``, as a model with a static batch size needs them.

    The last batch is filled up with the first examples again, so that every example is seen, a ``max`` calibration
    gives the same ranges at every batch size, and a batch larger than the whole set can be calibrated.
    """
    import torch

    count = tensors[0].shape[0]
    for start in range(0, math.ceil(count / batch) * batch, batch):
        rows = torch.arange(start, start + batch) % count
        yield tuple(tensor[rows] for tensor in tensors)


def digest(tensors: Sequence[torch.Tensor]) -> str:
    """SHA-256 of the data, its shapes and datatypes, so that a report says exactly what a range came from."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(f"{_short(tensor)}{list(tensor.shape)}".encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


def _short(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
