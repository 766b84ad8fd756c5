"""Rules that name cases: ``[[floor]]`` and ``[[known_failure]]`` of trtgate.toml."""

from __future__ import annotations

import fnmatch
from typing import Final, Literal

from pydantic import Field, field_validator

from trtgate.case import BackendName, Case, Precision, Quantity, is_shape
from trtgate.policy.patterns import Architecture, Runtime
from trtgate.policy.section import Reason, Section
from trtgate.record import Identity


class Floor(Section):
    """A speedup that must hold: the lower bound of its interval has to reach ``at_least``."""

    gpu: str = Field(description="shell pattern for the GPU's name")
    runtime: Runtime = Field(
        default="*", description="shell pattern for 'tensorrt_rtx 1.4.0.76' or 'torch 2.11.0+cu130'"
    )
    quantity: Quantity = Field(description="device or latency, in which speedups are measured")
    baseline: Literal["eager", "eager_graph", "inductor"] = Field(description="what the speedup is over")
    workload: str = Field(description="its name; no pattern")
    backend: BackendName = Field(description="of the case")
    precision: Precision = Field(description="of the case")
    shape: str = Field(description="of the case, such as 'b8', or 'b8s128' with a sequence length")
    at_least: float = Field(gt=0, description="how many times faster")
    reason: Reason

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
        ) and self.is_for(identity)

    def is_for(self, identity: Identity) -> bool:
        """Whether this floor is one of this machine and stack, whatever the case."""
        return fnmatch.fnmatchcase(identity.gpu or "", self.gpu) and _runtime_matches(self.runtime, identity)


_FEWEST_LETTERS: Final = 4  # fewer occur in any message


class KnownFailure(Section):
    """A row that is known to fail here. It still runs, and turns the run red the day it passes or fails otherwise."""

    case: str | tuple[str, ...] = Field(description="shell pattern for case ids, or several")
    stage: Literal["build", "parity", "run", "optimisation"] = Field(description="where it fails")
    error: str | tuple[str, ...] = Field(
        description="words that the error holds, or several of which it holds at least one"
    )
    runtime: Runtime = Field(description="shell pattern for 'tensorrt_rtx 1.4.0.76' or 'onnxruntime 1.32.0'")
    architecture: Architecture = Field(
        default="*", description="shell pattern for the compute capability, such as sm_90"
    )
    reason: Reason

    @property
    def patterns(self) -> tuple[str, ...]:
        """Shell patterns for case ids."""
        return (self.case,) if isinstance(self.case, str) else self.case

    @field_validator("error")
    @classmethod
    def _tells_errors_apart(cls, error: str | tuple[str, ...]) -> str | tuple[str, ...]:
        words = (error,) if isinstance(error, str) else error
        if not words or any(len(one.strip()) < _FEWEST_LETTERS for one in words):
            raise ValueError(f"words of at least {_FEWEST_LETTERS} letters tell the error that is known from others")
        return error

    def applies(self, case: Case, identity: Identity) -> bool:
        """Whether this entry names the case on this machine."""
        return (
            any(fnmatch.fnmatchcase(case.id, pattern) for pattern in self.patterns)
            and fnmatch.fnmatchcase(identity.architecture or "cpu", self.architecture)
            and _runtime_matches(self.runtime, identity)
        )

    @property
    def errors(self) -> tuple[str, ...]:
        """The words of which an error has to hold at least one."""
        return (self.error,) if isinstance(self.error, str) else self.error

    def explains(self, seen: str) -> bool:
        """Whether an error is the one that is known, and not another fault that hides behind the entry.

        Args:
            seen: the error's message; line breaks count as spaces.
        """
        message = " ".join(seen.split())
        return any(" ".join(words.split()) in message for words in self.errors)


def _runtime_matches(pattern: str, identity: Identity) -> bool:
    names = (
        f"{identity.tensorrt_flavour} {identity.tensorrt}",
        f"torch {identity.torch}",
        f"onnxruntime {identity.onnxruntime}",
    )
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)
