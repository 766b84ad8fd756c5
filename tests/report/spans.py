"""Ranges for rows that no machine measured."""

from trtgate.report.rows import Range


def span(middle: float) -> Range:
    """A range of 1% to both sides."""
    return Range(middle, middle * 0.99, middle * 1.01)
