"""How many units of injected work lengthen an inference by a wanted fraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from trtgate.errors import MeasurementError

_FIRST_PROBE: Final = 2000
_LARGEST_PROBE: Final = 2**40
_PROBED_FRACTION: Final = 0.2  # long enough that the resolution of events does not bend the line


def calibrate(
    case: str, lengthening: Callable[[int], float], fractions: Mapping[str, float], anchor: str
) -> dict[str, int]:
    """Units for each fraction, from a line whose slope and offset are measured.

    A busy kernel costs its launch inside the graph and then its cycles, so the line does not go through zero.

    Args:
        case: for messages.
        lengthening: measures by what fraction so many units lengthen the case.
        fractions: wanted, by name.
        anchor: the name of the fraction at which the line has to be right.

    Raises:
        MeasurementError: the case does not answer to the work, or is too noisy.
    """
    probe = _FIRST_PROBE
    while (reached := lengthening(probe)) < _PROBED_FRACTION:
        probe *= 4
        if probe > _LARGEST_PROBE:
            raise MeasurementError(f"A busy kernel of {probe} units does not lengthen {case}.", "Look at its stream.")
    half = lengthening(probe // 2)
    slope = (reached - half) / (probe - probe // 2)
    if slope <= 0:
        raise MeasurementError(f"{case} is too noisy to calibrate a busy kernel on it.", "Lock the clocks.")
    near = max(1, round((fractions[anchor] - reached + slope * probe) / slope))
    launch = lengthening(near) - slope * near
    return {name: max(1, round((fraction - launch) / slope)) for name, fraction in fractions.items()}
