"""Thresholds and tolerances: every number that someone chose, with its reason beside it.

The defaults hold where trtgate.toml is silent; each section has a file here. A key that no section knows is refused
with the nearest known one, because a misspelt threshold that is ignored is a gate that sleeps.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from trtgate.case import Case, Quantity
from trtgate.errors import PolicyError
from trtgate.policy import messages
from trtgate.policy.calibration import CalibrationSettings
from trtgate.policy.gate import GateSettings
from trtgate.policy.judge import JudgeSettings, MarginSettings, TrendSettings
from trtgate.policy.measure import MeasureSettings
from trtgate.policy.optimisation import OptimisationSettings
from trtgate.policy.parity import ParitySettings, ParityTolerance
from trtgate.policy.rules import Floor, KnownFailure
from trtgate.policy.section import Section
from trtgate.policy.store import StoreSettings
from trtgate.record import Identity

__all__ = [
    "FILE_NAME",
    "CalibrationSettings",
    "Floor",
    "GateSettings",
    "JudgeSettings",
    "KnownFailure",
    "MarginSettings",
    "MeasureSettings",
    "OptimisationSettings",
    "ParitySettings",
    "ParityTolerance",
    "Policy",
    "StoreSettings",
    "TrendSettings",
    "find",
    "load",
]

FILE_NAME = "trtgate.toml"


class Policy(Section):
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

    def floors_asleep(self, identity: Identity) -> tuple[str, ...]:
        """A sentence for each kind of floor of which there are some and none is for this machine and stack.

        A run that misses no floor proves nothing where there was none to miss.
        """
        told = []
        if self.floor and not any(floor.is_for(identity) for floor in self.floor):
            names = "speedup floors name" if len(self.floor) > 1 else "speedup floor names"
            told.append(f"{len(self.floor)} {names} another GPU or runtime; none applied here.")
        layers, runtime = self.optimisation.layer_floor, f"{identity.tensorrt_flavour} {identity.tensorrt}"
        if identity.tensorrt is not None and layers and not any(floor.is_for(runtime) for floor in layers):
            names = "floors on nodes per layer name" if len(layers) > 1 else "floor on nodes per layer names"
            told.append(f"{len(layers)} {names} another runtime; none applied here.")
        return tuple(told)

    def known_failures_for(self, case: Case, identity: Identity, *stages: str) -> tuple[KnownFailure, ...]:
        """The entries that say that this case is expected to fail here, in these stages: a case may fail in several."""
        return tuple(known for known in self.known_failure if known.stage in stages and known.applies(case, identity))


def load(path: Path | None) -> Policy:
    """Read a policy file; without one, the defaults.

    Raises:
        PolicyError: unreadable, not TOML, an unknown or missing key, or a value out of range.
    """
    if path is None:
        return Policy()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path} cannot be read ({error.strerror}).", "Name a readable policy file.") from None
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path} is not text: its byte {error.start} is not UTF-8.", "Save it as UTF-8.") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise messages.broken_toml(path, text, error) from None
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise messages.explain(path, error, Policy) from None


def find(start: Path) -> Path | None:
    """The nearest trtgate.toml in a folder or one above it."""
    return next((here / FILE_NAME for here in (start, *start.parents) if (here / FILE_NAME).is_file()), None)
