"""An estimate with its bounds, without the statistics that make one: many commands only print them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds between which the truth lies with the stated confidence."""

    estimate: float
    low: float
    high: float
    confidence: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width, relative to the estimate."""
        return (self.high - self.low) / 2 / abs(self.estimate) if self.estimate else float("inf")

    @property
    def reciprocal(self) -> Interval:
        """The same statement about the inverse ratio."""
        return Interval(1 / self.estimate, 1 / self.high, 1 / self.low, self.confidence)
