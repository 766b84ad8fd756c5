"""How the workers of a gate are set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trtgate.policy import Policy

PROVING: Final = ("base", "head")
"""Roles that prove their cases; the twin of the base is the same code."""


@dataclass(frozen=True, slots=True)
class Station:
    """How the workers of a gate are set up, equal for all sides.

    Attributes:
        device: ``cuda`` or ``cpu``.
        cache: folder for engines; every side and every build has its own below it.
        shared: folder for what no build shapes: trained weights, datasets.
        logs: folder for what workers print.
        measure: fields of `MeasureSettings`.
        parity: fields of `ParitySettings`.
        calibration: fields of `CalibrationSettings`.
        timeout_s: longest wait for one reply.
        provers: processes that build and prove their cases at the same time.
    """

    device: str
    cache: Path
    shared: Path
    logs: Path
    measure: Mapping[str, Any]
    parity: Mapping[str, Any]
    calibration: Mapping[str, Any]
    timeout_s: float
    provers: int = 1

    @classmethod
    def of(cls, policy: Policy, device: str, cache: Path, shared: Path, logs: Path, crews: int) -> Station:
        """A set-up in which both sides measure, prove and calibrate as a policy says, so many crews at once."""
        return cls(
            device=device,
            cache=cache,
            shared=shared,
            logs=logs,
            measure=policy.measure.model_dump(mode="json"),
            parity=policy.parity.model_dump(mode="json"),
            calibration=policy.calibration.model_dump(mode="json"),
            timeout_s=policy.gate.timeout_seconds,
            provers=len(PROVING) * crews,
        )
