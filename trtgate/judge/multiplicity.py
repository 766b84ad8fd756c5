"""Judging many cases at once without multiplying the false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def holm(p_values: Sequence[float], family: int | None = None) -> npt.NDArray[np.float64]:
    """Adjust p values so that rejecting those below a level errs, family-wise, at most at that level.

    Holm's step-down method (Scandinavian Journal of Statistics 6, 1979): it needs no independence between the cases and
    rejects whatever Bonferroni's rejects. scipy has only the false discovery rate, which promises less.

    Args:
        p_values: one a hypothesis, each in [0, 1].
        family: number of hypotheses, where some of them have no p value yet; those count as 1.

    Returns:
        Adjusted p values in the same order, shape (len(p_values),).
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.size == 0:
        return values
    size = max(family or 0, values.size)
    order = np.argsort(values, kind="stable")
    steps = values[order] * (size - np.arange(values.size))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
