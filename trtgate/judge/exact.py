"""Comparing figures that have no noise model: bytes, and errors of parity, each with a margin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trtgate.case import Quantity
from trtgate.judge.interval import Interval
from trtgate.judge.verdict import Decision, Verdict, percent
from trtgate.policy.judge import JudgeSettings
from trtgate.record import Parity

_Figures = npt.NDArray[np.float64]


def judge_exact(
    before: _Figures,
    after: _Figures,
    quantity: Quantity,
    margin: float,
    least: float | _Figures = 0.0,
    step: float = 0.0,
) -> Decision:
    """Bytes and parity errors: no noise model, a margin on each figure; the one that moved most speaks for all.

    Args:
        before: figures of the base, shape (n,).
        after: the same figures of the head.
        quantity: for the unit.
        margin: as a fraction.
        least: what a figure counts for at least, on either side; one for all, or shape (n,). Without it a change from
            nothing has no ratio, and its decision no interval.
        step: how far a figure moves by itself; a difference that is not larger is no change.
    """
    if before.size != after.size or before.size == 0:
        return Decision(
            Verdict.SLOWER, "facts_changed", f"{before.size} figures in the base, {after.size} in the head."
        )
    least = np.broadcast_to(np.asarray(least, dtype=np.float64), before.shape)
    old, new = np.maximum(before, least), np.maximum(after, least)
    grown = np.divide(new, old, out=np.where(new == old, 1.0, np.inf), where=old > 0)
    by_itself = np.abs(after - before) <= step
    counts = np.where(by_itself, 1.0, grown)
    best, worst = int(np.argmin(counts)), int(np.argmax(counts))
    if float(counts[worst]) > 1 + margin:
        verdict, word, code, at = Verdict.SLOWER, "Worse", "beyond_margin", worst
    elif float(counts[best]) < 1 / (1 + margin):
        verdict, word, code, at = Verdict.FASTER, "Better", "beyond_margin", best
    else:
        most = worst if grown[worst] * grown[best] >= 1 else best
        verdict, word, code, at = Verdict.SAME, "Same", "within_margin", most
    ratio = float(grown[at])
    moved = f"{_figure(before[at], quantity)} -> {_figure(after[at], quantity)}"
    raised = min(before[at], after[at]) < least[at]
    counted = f"; less than {_figure(least[at], quantity)} counts as that" if raised else ""
    if by_itself[at] and not 1 / (1 + margin) <= ratio <= 1 + margin:
        counted += f"; {_figure(step, quantity)} more or less is no change"
    change = f"{percent(ratio)} ({moved}{counted})" if np.isfinite(ratio) else moved
    interval = Interval(ratio, ratio, ratio, 1.0) if np.isfinite(ratio) else None
    return Decision(verdict, code, f"{word}: {change}, margin {margin * 100:g}%.", interval)


def least_figure(
    quantity: Quantity, settings: JudgeSettings, parity: Parity | None = None, count: int = 0
) -> float | _Figures:
    """What a figure of a quantity counts for at least.

    Args:
        quantity: bytes or errors.
        settings: the numbers.
        parity: of errors, what holds their bounds. The base's, for both sides: a head whose own bound is looser is not
            better for it.
        count: how many errors are compared; a comparison that holds another number of outputs says nothing of them.
    """
    if quantity is Quantity.MEMORY:
        return float(settings.least_memory_bytes)
    if quantity is not Quantity.PARITY or parity is None or len(parity.outputs) != count:
        return 0.0
    return settings.least_parity_share * np.array([output.bound for output in parity.outputs])


def _figure(value: float, quantity: Quantity) -> str:
    return f"{value:,.0f} bytes" if quantity.unit == "bytes" else f"{value:.3g}"
