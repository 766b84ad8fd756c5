"""What one benchmark leaves behind: the only thing that measuring and judging share.

A record is plain JSON on disk (a line of a journal, or ``extra_info`` of a pytest-benchmark row) and a frozen,
validated object in memory. Unknown keys, missing keys and a newer schema are refused: a gate must not guess.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trtgate.case import Case, Quantity
from trtgate.errors import RecordError
from trtgate.validation import first_problem, require_known_schema

SCHEMA: Final = 1
_RESTORE = "Restore the file or record it again."
EVENT_PAIR: Final = "event pair"
LESS_EMPTY_PAIR: Final = "event pair less an empty one"

_SEEN: Final = " Seen: "


def with_seen(reason: str, seen: str) -> str:
    """The reason of a row that failed as the policy knows: the policy's own, and the error that was seen this time."""
    return f"{reason}{_SEEN}{seen}"


def without_seen(reason: str) -> tuple[str, str]:
    """The two that `with_seen` joined; of any other reason all of it, and nothing."""
    known, _, seen = reason.partition(_SEEN)
    return known, seen


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Identity(_Frozen):
    """Machine and stack of a measurement. Two results compare only where the fields that matter to them agree.

    Every field is a string as its owner reports it, or None where the part is not there; the last says how device time
    was read.
    """

    gpu: str | None = Field(description="GPU model as NVML names it")
    architecture: str | None = Field(description="compute capability, such as sm_90")
    driver: str | None
    cuda: str | None = Field(description="CUDA version that torch was built for")
    tensorrt_flavour: Literal["tensorrt", "tensorrt_rtx"] | None
    tensorrt: str | None
    torch_tensorrt: str | None
    torch: str | None
    onnxruntime: str | None
    cpu: str
    threads: int
    python: str
    # Its default is what every result was before this was told.
    device_clock: Literal["event pair", "event pair less an empty one"] = EVENT_PAIR

    @property
    def folder(self) -> str:
        """Name of the history folder of this GPU and stack; safe as a path on every system."""
        if self.gpu is None:
            parts = ["cpu", self.cpu, f"{self.threads}t"]
        else:
            parts = [self.gpu, f"driver{self.driver}", f"cuda{self.cuda}"]
        if self.tensorrt is not None:
            flavour = "rtx" if self.tensorrt_flavour == "tensorrt_rtx" else "trt"
            parts.append(f"{flavour}{self.tensorrt}")
        parts.append(f"torch{self.torch}")
        kept = ("".join(c if c.isalnum() or c in "._+" else "-" for c in part.lower()) for part in parts)
        return "_".join("-".join(filter(None, part.split("-"))) for part in kept)


class Series(_Frozen):
    """Samples in the order in which they were taken, stored as deflated little-endian float32.

    float32 keeps seven digits, a thousand times finer than the resolution of a CUDA event.
    """

    count: int = Field(ge=0, le=10_000_000)
    packed: str = Field(description="base64 of zlib of float32 values")

    @classmethod
    def of(cls, samples: Iterable[float]) -> Self:
        """Pack samples.

        Raises:
            RecordError: a sample is NaN, infinite or negative.
        """
        values = np.asarray(list(samples), dtype="<f4")
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise RecordError(
                f"A series holds the sample {next(float(v) for v in values if not math.isfinite(v) or v < 0)}.",
                "Samples are finite and not negative: look at the measurement that made it.",
            )
        return cls(count=len(values), packed=base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii"))

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The samples as float64, shape (count,).

        Raises:
            RecordError: the packed text is damaged.
        """
        try:
            # One byte more than the samples need: a foreign file must not unpack into all of the memory.
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(base64.b64decode(self.packed, validate=True), 4 * self.count + 1)
            if not unpacker.eof:
                raise zlib.error(f"it is cut off, or holds more than its {self.count} samples")
            values = np.frombuffer(raw, dtype="<f4").astype(np.float64)
        except (binascii.Error, zlib.error, ValueError) as error:
            raise RecordError(f"A packed series is damaged ({error}).", _RESTORE) from None
        if len(values) != self.count or not np.all(np.isfinite(values)):
            raise RecordError(
                f"A packed series says {self.count} samples and holds {len(values)}, or one is not finite.",
                _RESTORE,
            )
        return values


class Baseline(_Frozen):
    """Samples of another way to build the same cell, taken in turns with the record's own, round by round."""

    case: str
    series: Series


class Environment(_Frozen):
    """State of the device round a measurement, as NVML reports it; None where it reports nothing."""

    sm_clock_mhz: tuple[int, int] | None = Field(default=None, description="lowest and highest seen")
    memory_clock_mhz: tuple[int, int] | None = None
    temperature_c: tuple[int, int] | None = None
    power_w: tuple[float, float] | None = None
    throttle_reasons: tuple[str, ...] = ()
    neighbours: tuple[int, ...] = Field(default=(), description="process ids of others on the GPU")
    discarded_blocks: int = Field(default=0, ge=0, description="blocks thrown away because the GPU was throttled")
    kept_blocks: int = Field(default=0, ge=0)
    empty_pair_s: float | None = Field(
        default=None,
        ge=0,
        description="of device time: what two events with nothing between read, taken off each sample",
    )
    host_bound: bool = Field(default=False, description="the device waited for the host although work was queued")
    host_bound_baselines: tuple[str, ...] = Field(default=(), description="baselines of which the same holds")
    steady: bool = Field(default=True, description="warm-up ended because medians were steady, not because time was up")


class OutputError(_Frozen):
    """Error of one output tensor over all batches."""

    name: str
    relative_l2: float = Field(description="worst batch: norm(candidate - reference) / norm(reference)")
    yardstick: float = Field(description="of plain PyTorch at this precision, or of fake quantisation, against float64")
    bound: float
    max_abs: float
    cosine: float


class Parity(_Frozen):
    """What a comparison with the reference found."""

    passed: bool
    reference: Literal["float64", "fake_quantised"]
    batches: int = Field(ge=1)
    outputs: tuple[OutputError, ...]
    metrics: dict[str, float] = Field(default_factory=dict, description="task metrics, such as top1")
    message: str = Field(default="", description="the failure in words, empty when passed")


class Outcome(StrEnum):
    """How a benchmark ended. Only MEASURED carries samples."""

    MEASURED = "measured"
    KNOWN_FAILURE = "known_failure"
    FAILED = "failed"
    SKIPPED = "skipped"


class Record(_Frozen):
    """One quantity of one case on one machine."""

    schema_version: Literal[1] = SCHEMA
    case: str
    quantity: Quantity
    outcome: Outcome
    reason: str = Field(default="", description="why it is no pass; of a measured row, the floor that it misses")
    identity: Identity
    commit: str | None = None
    workload: str | None = Field(default=None, description="fingerprint of the weights and the architecture")
    recorded_at: str = Field(description="ISO 8601, UTC")
    series: Series | None = None
    baselines: dict[str, Baseline] = Field(default_factory=dict, description="eager, eager_graph, inductor, ...")
    environment: Environment = Environment()
    parity: Parity | None = None
    facts: dict[str, Any] = Field(default_factory=dict, description="plain JSON: build seconds, layer census, ...")

    @field_validator("case")
    @classmethod
    def _is_a_case_id(cls, text: str) -> str:
        Case.parse(text)
        return text

    @model_validator(mode="after")
    def _only_measured_rows_carry_samples(self) -> Self:
        if (self.outcome is Outcome.MEASURED) != (self.series is not None):
            raise ValueError(f"outcome '{self.outcome}' and {'no ' if self.series is None else ''}series do not agree")
        if self.series is not None and self.parity is not None and not self.parity.passed:
            raise ValueError("a timing whose parity failed must not be stored")
        return self

    @property
    def key(self) -> tuple[str, str]:
        """Case id and quantity: what a history is indexed by."""
        return (self.case, self.quantity)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types only; defaults are left out to keep histories small."""
        kept = self.model_dump(mode="json", exclude_defaults=True)
        return {"schema_version": SCHEMA, **kept}

    @classmethod
    def from_json(cls, data: Any, source: str) -> Record:
        """Read what `to_json` wrote.

        Args:
            data: the parsed JSON.
            source: where it came from, for the message.

        Raises:
            RecordError: not a record, a newer schema, or damaged.
        """
        if not isinstance(data, dict):
            raise RecordError(
                f"{source} holds a {type(data).__name__}, not a record.", "Name a file that trtgate wrote."
            )
        require_known_schema(data, SCHEMA, "record", source)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problem = first_problem(error, "the record")
            raise RecordError(f"{source} is not a valid record: {problem}.", _RESTORE) from None
