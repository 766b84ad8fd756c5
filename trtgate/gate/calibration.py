"""How many units of injected work lengthen an inference by a wanted fraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from trtgate.errors import MeasurementError

PROBED: Final = 0.25
"""Fraction at which the first probe is best: long enough that the resolution of events does not bend the line."""
_PROBED_BETWEEN: Final = (0.1, 1.0)
_STEEPEST_STEP: Final = 64
_LARGEST_PROBE: Final = 2**40
_TRIES: Final = 3  # at one fraction: the line, and twice again from what it gave


@dataclass(slots=True)
class Calibrated:
    """What a case answered.

    Attributes:
        units: by name of the fraction, the units that reached it.
        refused: by name, the fraction that came nearest, where none was near enough; None where nothing was measured.
    """

    units: dict[str, int] = field(default_factory=dict)
    refused: dict[str, float | None] = field(default_factory=dict)


def calibrate(
    case: str,
    lengthening: Callable[[int], float],
    fractions: Mapping[str, float],
    first_probe: int,
    off: float,
) -> Calibrated:
    """Units for each fraction, from a line that is measured, and checked by measuring what they reach.

    A busy kernel costs its launch inside the graph and then its cycles, so the line does not go through zero, and a
    case that is shorter than a few launches cannot be lengthened by less than one.

    Args:
        case: for messages.
        lengthening: measures by what fraction so many units lengthen the case.
        fractions: wanted, by name.
        first_probe: units that are expected to lengthen it by `PROBED`.
        off: how far what is reached may lie off the wanted fraction, as a share of that.

    Raises:
        MeasurementError: the case does not answer to the work, or is too noisy.
    """
    probe, reached = _far_probe(case, lengthening, first_probe)
    slope = reached / probe
    found = Calibrated()
    near: tuple[int, float] | None = None
    for name, wanted in fractions.items():
        # The nearest point that was measured is where the line is right.
        units = round(wanted / slope) if near is None else near[0] + round((wanted - near[1]) / slope)
        best = (0, float("inf"))
        for _ in range(_TRIES):
            units = max(1, units)
            near = (units, lengthening(units))
            if abs(near[1] - wanted) < abs(best[1] - wanted):
                best = near
            if abs(best[1] - wanted) <= off * wanted or units == 1 < near[1] / wanted:
                break
            slope = _slope(case, (probe, reached), near)
            units += round((wanted - near[1]) / slope)
        if abs(best[1] - wanted) <= off * wanted:
            found.units[name] = best[0]
        else:
            found.refused[name] = best[1]
    return found


def _far_probe(case: str, lengthening: Callable[[int], float], first: int) -> tuple[int, float]:
    least, most = _PROBED_BETWEEN
    probe = max(1, first)
    while True:
        reached = lengthening(probe)
        if least <= reached <= most:
            return probe, reached
        step = min(_STEEPEST_STEP, PROBED / reached) if reached > PROBED / _STEEPEST_STEP else _STEEPEST_STEP
        further = max(1, round(probe * step))
        if further > _LARGEST_PROBE:
            raise MeasurementError(f"A busy kernel of {probe} units does not lengthen {case}.", "Look at its stream.")
        if further == probe:  # one unit alone is more than that
            return probe, reached
        probe = further


def _slope(case: str, far: tuple[int, float], near: tuple[int, float]) -> float:
    if far[0] == near[0] or (slope := (far[1] - near[1]) / (far[0] - near[0])) <= 0:
        raise MeasurementError(f"{case} is too noisy to calibrate a busy kernel on it.", "Lock the clocks.")
    return slope
