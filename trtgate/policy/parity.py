"""When two builds compute the same: the section ``[parity]`` of trtgate.toml."""

from __future__ import annotations

import fnmatch
from typing import Self

from pydantic import Field, model_validator

from trtgate.case import Case, Precision
from trtgate.policy.patterns import PrecisionPattern
from trtgate.policy.section import Reason, Section


class ParityTolerance(Section):
    """A candidate's relative L2 error may be ``factor`` times the yardstick, or ``floor``, whichever is larger.

    The yardstick is plain PyTorch's error at this precision; of quantised cases it is the fake-quantised model's
    distance from float64.
    """

    factor: float = Field(gt=0, description="times the yardstick")
    floor: float = Field(gt=0, description="of the output's norm, where the yardstick is smaller")


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


class SqnrFloor(Section):
    """Decibels that a fake-quantised model stands above the noise of its own quantising, at least.

    What a candidate is held to follows its fake-quantised model; that this has not got worse, only such a floor shows.
    """

    workload: str = Field(description="shell pattern for workload names")
    backend: str = Field(default="*", description="shell pattern for the backend, which decides what is quantised")
    precision: PrecisionPattern = Field(default="*", description="shell pattern for the precision")
    at_least_db: float = Field(description="decibels of signal over quantisation noise")
    reason: Reason

    def applies(self, case: Case) -> bool:
        """Whether this floor names the case."""
        return (
            fnmatch.fnmatchcase(case.workload, self.workload)
            and fnmatch.fnmatchcase(case.backend, self.backend)
            and fnmatch.fnmatchcase(case.precision, self.precision)
        )


class ParitySettings(Section):
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
    sqnr_floor: tuple[SqnrFloor, ...] = ()

    @model_validator(mode="after")
    def _every_precision_has_a_tolerance(self) -> Self:
        # A table in the file changes the precisions it names and leaves the rest at their defaults.
        merged = _default_tolerances() | self.tolerance
        object.__setattr__(self, "tolerance", merged)
        return self

    def sqnr_floor_for(self, case: Case) -> SqnrFloor | None:
        """The highest floor that names the case, None where nobody set one."""
        found = [floor for floor in self.sqnr_floor if floor.applies(case)]
        return max(found, key=lambda floor: floor.at_least_db, default=None)
