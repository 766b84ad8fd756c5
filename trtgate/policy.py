"""Thresholds and tolerances: every number that someone chose, with its reason beside it.

The defaults below hold where trtgate.toml is silent. A key that this file does not know is refused with the nearest
known one, because a misspelt threshold that is ignored is a gate that sleeps.
"""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trtgate import policy_messages
from trtgate.case import BackendName, Case, Precision, Quantity, is_shape
from trtgate.errors import PolicyError
from trtgate.gate_settings import GateSettings as GateSettings
from trtgate.judge_settings import JudgeSettings as JudgeSettings
from trtgate.judge_settings import MarginSettings as MarginSettings
from trtgate.judge_settings import TrendSettings as TrendSettings
from trtgate.policy_calibration import CalibrationSettings
from trtgate.policy_optimisation import OptimisationSettings
from trtgate.record import Identity

FILE_NAME = "trtgate.toml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MeasureSettings(_Section):
    """How long and how carefully a quantity is timed."""

    min_rounds: int = Field(default=20, ge=5, description="below 20 rounds a median's interval is wider than 1% here")
    max_rounds: int = Field(default=200, ge=5, description="more rounds than this tell nothing new about one process")
    seconds: float = Field(default=0.3, gt=0, description="time budget of one quantity of one case, warm-up excluded")
    max_seconds: float = Field(
        default=20.0, gt=0, description="beyond it a slow model gets fewer rounds, and a wide interval says so"
    )
    target_half_width: float = Field(default=0.005, gt=0, description="stop early once every ratio is this certain")
    block_rounds: int = Field(default=10, ge=1, description="rounds between two looks at the GPU's clocks")
    warmup_seconds: float = Field(default=2.0, gt=0, description="warm-up gives up on steadiness after this long")
    steady_within: float = Field(default=0.02, gt=0, description="two windows of warm-up medians this close are steady")
    warmup_window_rounds: int = Field(
        default=5, ge=3, description="fewest samples a warm-up window; three are the least that have a spread"
    )
    warmup_window_seconds: float = Field(
        default=0.025,
        gt=0,
        description="shortest warm-up window; five graph replays end before a GPU's clocks have moved",
    )
    max_discarded_blocks: int = Field(default=10, ge=0, description="more throttled blocks than this fail the case")
    throughput_seconds: float = Field(
        default=0.01, gt=0, description="length of one back-to-back burst: a thousand times a clock's resolution"
    )
    min_burst: int = Field(
        default=10, ge=2, description="inferences a burst on a GPU: the last one's synchronisation is under a tenth"
    )
    min_burst_cpu: int = Field(default=2, ge=1, description="inferences a burst on a CPU, where each ends by itself")
    spacer_seconds: float = Field(
        default=2e-4, gt=0, description="first length of the kernel that holds the stream: ten launches of a CUDA graph"
    )
    max_spacer_seconds: float = Field(
        default=0.02,
        gt=0,
        description="work not queued behind this is host-bound: ungraphed eager models take up to 6 ms to launch",
    )
    confidence: float = Field(default=0.99, gt=0.5, lt=1, description="of every interval that is printed or asserted")


class ParityTolerance(_Section):
    """A candidate's relative L2 error may be ``factor`` times the yardstick, or ``floor``, whichever is larger.

    The yardstick is plain PyTorch's error at this precision; of quantised cases it is the fake-quantised model's
    distance from float64.
    """

    factor: float = Field(gt=0)
    floor: float = Field(gt=0)


def _default_tolerances() -> dict[Precision, ParityTolerance]:
    # Factors: torch._dynamo.utils.same allows 2x (3x in half precision). Floors: a few roundings of the datatype, which
    # for TF32 are 2^-10 each: tensor cores may cut an operand's low bits off instead of rounding it.
    # Quantised: a rounding is a step, so deep models amplify the last bit of a sum until it is worth about as much as
    # quantising was. Measured on the CPU in int8, ONNX Runtime against its own model as written: 6% of the norm
    # (resnet18) and 8 to 9% (transformer), about the noise that quantising itself had made. Noise as large that shared
    # nothing with it, not even that of the weights, would be off by 1.41 times.
    return {
        Precision.FP32: ParityTolerance(factor=3.0, floor=1e-5),
        Precision.TF32: ParityTolerance(factor=3.0, floor=4e-3),
        Precision.FP16: ParityTolerance(factor=3.0, floor=1e-3),
        Precision.BF16: ParityTolerance(factor=3.0, floor=8e-3),
        Precision.INT8: ParityTolerance(factor=1.25, floor=2e-2),
        Precision.FP8: ParityTolerance(factor=1.25, floor=2e-2),
    }


class ParitySettings(_Section):
    """What counts as the same computation."""

    batches: int = Field(
        default=4, ge=4, description="seeded batches that are compared; fewer would let a lucky input pass for proof"
    )
    min_logit_spread: float = Field(
        default=1e-3, gt=0, description="a reference whose outputs hardly vary cannot show an error"
    )
    top1_agreement: float = Field(default=0.99, ge=0, le=1, description="MLPerf's 99% of the float32 task metric")
    max_bound: float = Field(
        default=0.5, gt=0, description="share of the output's norm: an answer that ignores its input is off by about 1"
    )
    evaluation_examples: int = Field(
        default=1000, ge=1, description="all held-out digits: half a point is five of them; batch 1 takes half a second"
    )
    max_top1_drop_points: float = Field(
        default=0.5, ge=0, description="percentage points of top-1 that a quantised case may lose against float64"
    )
    min_sqnr_db: float = Field(
        default=20.0, gt=0, description="signal to quantisation noise against float64: a tenth of the signal's norm"
    )
    sqnr_loss_db: float = Field(
        default=3.0,
        ge=0,
        description="twice the noise power: what a candidate may lose where the fake-quantised model is itself near "
        "min_sqnr_db or below; with random weights resnet18 reaches 13.7 dB in fp8, the transformer 19.6 dB in int8",
    )
    tolerance: dict[Precision, ParityTolerance] = Field(default_factory=_default_tolerances)

    @model_validator(mode="after")
    def _every_precision_has_a_tolerance(self) -> Self:
        # A table in the file changes the precisions it names and leaves the rest at their defaults.
        merged = _default_tolerances() | self.tolerance
        object.__setattr__(self, "tolerance", merged)
        return self


class Floor(_Section):
    """A speedup that must hold: the lower bound of its interval has to reach ``at_least``."""

    gpu: str = Field(description="shell pattern for the GPU's name")
    runtime: str = Field(default="*", description="shell pattern for 'tensorrt_rtx 1.4.0.76' or 'torch 2.11.0+cu130'")
    quantity: Quantity
    baseline: Literal["eager", "eager_graph", "inductor"]
    workload: str
    backend: BackendName
    precision: Precision
    shape: str
    at_least: float = Field(gt=0)
    reason: str = Field(min_length=1)

    @field_validator("quantity")
    @classmethod
    def _has_baselines(cls, quantity: Quantity) -> Quantity:
        if quantity not in (Quantity.DEVICE, Quantity.LATENCY):
            raise ValueError("speedups are measured in 'device' and 'latency' alone, so no other floor would ever hold")
        return quantity

    @field_validator("shape")
    @classmethod
    def _is_of_a_case(cls, shape: str) -> str:
        if not is_shape(shape):
            raise ValueError("no case has such a shape; it is written 'b8', or 'b8s128' with a sequence length")
        return shape

    def applies(self, case: Case, quantity: Quantity, identity: Identity) -> bool:
        """Whether this floor names the case on this machine."""
        return (
            (self.workload, self.backend, self.precision, self.shape, self.quantity)
            == (case.workload, case.backend, case.precision, case.shape, quantity)
            and fnmatch.fnmatchcase(identity.gpu or "", self.gpu)
            and _runtime_matches(self.runtime, identity)
        )


class KnownFailure(_Section):
    """A row that is known to fail here. It still runs, and turns the run red the day it passes."""

    case: str | tuple[str, ...] = Field(description="shell pattern for case ids, or several")
    stage: Literal["build", "parity", "run", "optimisation"]
    runtime: str = Field(description="shell pattern for 'tensorrt_rtx 1.4.0.76' or 'onnxruntime 1.32.0'")
    architecture: str = Field(default="*", description="shell pattern for the compute capability, such as sm_90")
    reason: str = Field(min_length=1)

    def applies(self, case: Case, identity: Identity) -> bool:
        """Whether this entry names the case on this machine."""
        patterns = (self.case,) if isinstance(self.case, str) else self.case
        return (
            any(fnmatch.fnmatchcase(case.id, pattern) for pattern in patterns)
            and fnmatch.fnmatchcase(identity.architecture or "cpu", self.architecture)
            and _runtime_matches(self.runtime, identity)
        )


def _runtime_matches(pattern: str, identity: Identity) -> bool:
    names = (
        f"{identity.tensorrt_flavour} {identity.tensorrt}",
        f"torch {identity.torch}",
        f"onnxruntime {identity.onnxruntime}",
    )
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


class StoreSettings(_Section):
    """Limits of the history."""

    max_file_bytes: int = Field(
        default=256 * 2**20, ge=1, description="the default matrix takes 5 MB; fifty times that is not a run of ours"
    )


class Policy(_Section):
    """Everything that trtgate.toml may say."""

    measure: MeasureSettings = MeasureSettings()
    parity: ParitySettings = Field(default_factory=ParitySettings)
    calibration: CalibrationSettings = CalibrationSettings()
    optimisation: OptimisationSettings = Field(default_factory=OptimisationSettings)
    judge: JudgeSettings = JudgeSettings()
    gate: GateSettings = GateSettings()
    store: StoreSettings = StoreSettings()
    floor: tuple[Floor, ...] = ()
    known_failure: tuple[KnownFailure, ...] = ()

    def floors_for(self, case: Case, quantity: Quantity, identity: Identity) -> list[Floor]:
        """The speedup floors that this case must reach on this machine."""
        return [floor for floor in self.floor if floor.applies(case, quantity, identity)]

    def known_failure_for(self, case: Case, identity: Identity) -> KnownFailure | None:
        """The entry that explains why this case is expected to fail here, if there is one."""
        return next((known for known in self.known_failure if known.applies(case, identity)), None)


def load(path: Path | None) -> Policy:
    """Read a policy file; without one, the defaults.

    Raises:
        PolicyError: unreadable, not TOML, an unknown or missing key, or a value out of range.
    """
    if path is None:
        return Policy()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read ({error.strerror}).", "Name a readable policy file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is not valid TOML: {error}.", "Mend the line that is named.") from None
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise policy_messages.explain(path, error, Policy) from None


def find(start: Path) -> Path | None:
    """The nearest trtgate.toml in a folder or one above it."""
    return next((here / FILE_NAME for here in (start, *start.parents) if (here / FILE_NAME).is_file()), None)
