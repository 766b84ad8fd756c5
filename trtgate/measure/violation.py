"""A claim about an engine that does not hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A claim that does not hold.

    Attributes:
        check: operator fusion, tensor fusion, precision reduction, graph optimisation, or coverage.
        message: what is wrong, in one sentence.
        layers: names of the layers that show it.
    """

    check: str
    message: str
    layers: tuple[str, ...] = ()
