"""The words in which a judge speaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from trtgate.judge.interval import Interval
from trtgate.policy.judge import JudgeSettings

_AS_FACTOR: Final = 1000.0  # percent beyond which nobody reads a change as one


class Verdict(StrEnum):
    """What became of one quantity of one case. SLOWER and FASTER mean worse and better where it is not a time."""

    SAME = "same"
    FASTER = "faster"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    NEW = "new"
    MISSING = "missing"
    INCOMPARABLE = "incomparable"
    INVALID = "invalid"

    @property
    def compared(self) -> bool:
        """Whether two results stood side by side."""
        return self in (Verdict.SAME, Verdict.FASTER, Verdict.SLOWER, Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, why, and on what evidence.

    Attributes:
        verdict: the word.
        code: which rule gave it, stable for machines: ``beyond_margin``, ``within_margin``, ``too_noisy``, ...
        reason: one sentence or two for people, with figures.
        interval: of the ratio head / base (above 1 is slower or larger), None where nothing was estimated. For SLOWER
            and FASTER its confidence is the one at which multiplicity let the case be decided.
        resolvable: smallest slowdown, as a fraction, that this evidence would have found; None where not stated.
        pairs: pairs of processes behind the interval, 0 where there were none.
    """

    verdict: Verdict
    code: str
    reason: str
    interval: Interval | None = None
    resolvable: float | None = None
    pairs: int = 0

    @property
    def why(self) -> str:
        """The reason for a line in which the verdict stands already, and need not stand twice."""
        return self.reason.removeprefix(f"{self.verdict.value.capitalize()}: ")

    def passes(self, settings: JudgeSettings) -> bool:
        """Whether this decision lets a pull request through."""
        return self.verdict.value in settings.passes


def percent(ratio: float) -> str:
    """A ratio as a signed change: 1.031 is ``+3.1%``; more digits where it is small, and 1234 is ``x1.23e+03``."""
    change = (ratio - 1) * 100
    if abs(change) >= _AS_FACTOR:
        return f"x{ratio:.3g}"
    return f"{change:+.2f}%" if abs(change) < 1 else f"{change:+.1f}%"


def spell(interval: Interval) -> str:
    """An interval of a ratio for people: ``+3.1% [+2.2%, +4.0%]``."""
    return f"{percent(interval.estimate)} [{percent(interval.low)}, {percent(interval.high)}]"
