"""What is measured: one workload, built by one backend, in one precision, at one shape, executed one way.

A case is named by a stable id, which is the key of every history::

    resnet18-tensorrt_engine-fp16-b8-graph
    transformer-eager-bf16-b1s128-stream-cold

The id spells every field but a warm L2 cache. Field values never hold a hyphen, so an id can be read back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from trtgate.errors import UnknownValueError, UsageError


class Precision(StrEnum):
    """Datatype in which the model computes. fp32 means IEEE float32 with TF32 switched off."""

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"

    @property
    def quantised(self) -> bool:
        """Whether the model holds explicit quantise/dequantise pairs."""
        return self in (Precision.INT8, Precision.FP8)


class BackendName(StrEnum):
    """The ways in which one model is built."""

    EAGER = "eager"
    INDUCTOR = "inductor"
    ONNXRUNTIME = "onnxruntime"
    TORCH_TENSORRT = "torch_tensorrt"
    TENSORRT_ENGINE = "tensorrt_engine"

    @property
    def needs_tensorrt(self) -> bool:
        """Whether it cannot do without one of TensorRT's flavours."""
        return self in (BackendName.TORCH_TENSORRT, BackendName.TENSORRT_ENGINE)


class Execution(StrEnum):
    """How an inference reaches the device: call by call, or as the replay of a captured CUDA graph."""

    STREAM = "stream"
    GRAPH = "graph"


class L2(StrEnum):
    """State of the GPU's L2 cache when an inference starts."""

    WARM = "warm"
    COLD = "cold"


class Quantity(StrEnum):
    """What a record measures. Times are seconds an inference, where one inference is one call on the whole batch."""

    DEVICE = "device"
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    BUILD = "build"
    PLAN = "plan"
    MEMORY = "memory"
    PARITY = "parity"
    OPTIMISATION = "optimisation"

    @property
    def unit(self) -> str:
        """Unit of the samples: seconds, bytes, or 1 for a dimensionless figure."""
        if self in (Quantity.PLAN, Quantity.MEMORY):
            return "bytes"
        return "1" if self in (Quantity.PARITY, Quantity.OPTIMISATION) else "s"


_Member = TypeVar("_Member", bound=StrEnum)

_SHAPE = r"b(?P<batch>[1-9][0-9]*)(?:s(?P<sequence>[1-9][0-9]*))?"
_ID = re.compile(
    r"(?P<workload>[a-z0-9_.]+)-(?P<backend>[a-z0-9_]+)-(?P<precision>[a-z0-9]+)"
    rf"-{_SHAPE}-(?P<execution>[a-z]+)(?:-(?P<l2>[a-z]+))?"
)


def is_shape(text: str) -> bool:
    """Whether a text is of the form of `Case.shape`."""
    return re.fullmatch(_SHAPE, text) is not None


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One cell of the matrix.

    Args:
        workload: name of a registered workload, without hyphens.
        backend: who builds it.
        precision: datatype of the computation.
        batch: inputs an inference, at least 1.
        sequence: tokens an input, for workloads that have the dimension; None for the rest.
        execution: stream or graph.
        l2: warm or cold L2 cache.

    Raises:
        UsageError: a workload name with a hyphen, or a size below 1.
    """

    workload: str
    backend: BackendName
    precision: Precision
    batch: int
    sequence: int | None = None
    execution: Execution = Execution.STREAM
    l2: L2 = L2.WARM

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_.]+", self.workload):
            raise UsageError(
                f"The workload name '{self.workload}' cannot be part of a case id.",
                "Use lower-case letters, digits, '_' and '.' only.",
            )
        for label, size in (("batch", self.batch), ("sequence length", self.sequence)):
            if size is not None and size < 1:
                raise UsageError(f"The {label} is {size}.", "Use a whole number of at least 1.")

    @property
    def shape(self) -> str:
        """Batch and, where there is one, sequence length: ``b8`` or ``b8s128``."""
        return f"b{self.batch}" + (f"s{self.sequence}" if self.sequence is not None else "")

    @property
    def id(self) -> str:
        """The stable id; `Case.parse` reads it back."""
        parts = [self.workload, self.backend, self.precision, self.shape, self.execution]
        if self.l2 is not L2.WARM:
            parts.append(self.l2)
        return "-".join(parts)

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What this case shares with the cases that may be its baseline: workload, precision, shape and L2 state."""
        return (self.workload, self.precision, self.shape, self.l2)

    def built_by(self, backend: BackendName, execution: Execution) -> Case:
        """The same cell built and executed another way: a baseline of this case."""
        return replace(self, backend=backend, execution=execution)

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read a case id.

        Raises:
            UsageError: the text is not of an id's form.
            UnknownValueError: a field holds a value that does not exist.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise UsageError(
                f"'{text}' is not a case id.",
                "Write workload-backend-precision-shape-execution, such as resnet18-tensorrt_engine-fp16-b8-graph.",
            )
        return cls(
            workload=match["workload"],
            backend=_member(BackendName, "backend", match["backend"]),
            precision=_member(Precision, "precision", match["precision"]),
            batch=int(match["batch"]),
            sequence=int(match["sequence"]) if match["sequence"] else None,
            execution=_member(Execution, "execution", match["execution"]),
            l2=_member(L2, "L2 state", match["l2"] or L2.WARM),
        )


def _member(kind: type[_Member], label: str, value: str) -> _Member:
    try:
        return kind(value)
    except ValueError:
        raise UnknownValueError(label, value, [member.value for member in kind]) from None
