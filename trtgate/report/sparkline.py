"""A history as a small inline SVG, without scripts or outside assets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT, _PAD = 160, 32, 3
# More points than this are less than a pixel apart.
_MOST_POINTS = 320


def svg(values: Sequence[float], marks: Sequence[int] = (), label: str = "") -> str:
    """Draw a line over the runs with a dot at the last one and a bar at each change point.

    Args:
        values: one a run, oldest first, positive.
        marks: indices of runs that begin a new level.
        label: for people who cannot see it; escaped by the caller.
    """
    points = np.asarray(values, dtype=float)
    if points.size == 0:
        return ""
    # The newest point is always kept, since it is the one that is looked for.
    index = np.unique(np.linspace(0, points.size - 1, min(points.size, _MOST_POINTS)).round().astype(int))
    x = _PAD + index / max(points.size - 1, 1) * (_WIDTH - 2 * _PAD)
    low, high = float(points.min()), float(points.max())
    # A flat history within 2% is drawn flat, or noise would fill the picture.
    span = max(high - low, 0.02 * high, np.finfo(float).tiny)
    middle = (low + high) / 2
    y = _HEIGHT / 2 - (points[index] - middle) / span * (_HEIGHT - 2 * _PAD)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    bars = "".join(
        f'<line class="mark" x1="{_at(mark, points.size):.1f}" x2="{_at(mark, points.size):.1f}" y1="0" '
        f'y2="{_HEIGHT}"/>'
        for mark in marks
        if 0 <= mark < points.size
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">'
        f'{bars}<polyline points="{line}"/><circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.5"/></svg>'
    )


def _at(mark: int, count: int) -> float:
    return _PAD + mark / max(count - 1, 1) * (_WIDTH - 2 * _PAD)
