"""Numbers as text: three significant digits, units stated by the column."""

from __future__ import annotations

import math

from trtgate.report.rows import Bounds, ParityCell, Row, unclear

MISSING = "-"
DOUBT = "?"
_LARGEST_SPELT = 9999.5


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent between 0.001 and a million."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    # Rounding first keeps 9.999 from becoming "10.00".
    rounded = float(f"{value:.{digits - 1}e}")
    whole = len(str(int(abs(rounded)))) if abs(rounded) >= 1 else _leading_zeros(rounded)
    return f"{rounded:.{max(digits - whole, 0)}f}"


def _leading_zeros(value: float) -> int:
    """Minus the zeros after the point: 0.0123 has one, so -1."""
    zeros = 0
    while abs(value) * 10 ** (zeros + 1) < 1:
        zeros += 1
    return -zeros


def times(row: Row) -> tuple[str, str, str]:
    """Device time and latency in milliseconds, and inferences a second, each with its mark of doubt."""
    return (
        milliseconds(row.device_s, unsteady="device" in row.unsteady),
        milliseconds(row.latency_s, unsteady="latency" in row.unsteady),
        rate(row.throughput_per_s, unsteady="throughput" in row.unsteady),
    )


def milliseconds(seconds: Bounds | None, *, unsteady: bool = False) -> str:
    """The estimate in milliseconds, without its unit; ``51.0?`` where its samples do not agree on it."""
    return MISSING if seconds is None else significant(seconds.estimate * 1e3) + _doubt(unsteady)


def speedup(ratio: float) -> str:
    """A ratio in at most four characters below 1000, and five from there on: 0.91, 2.41, 13.9, 123, 4,321, 2e58."""
    if ratio >= _LARGEST_SPELT:
        return _short_exponent(ratio)
    for limit, decimals in ((9.995, 2), (99.95, 1)):
        if ratio < limit:
            return f"{ratio:.{decimals}f}"
    return f"{ratio:,.0f}"


def interval(bounds: Bounds | None) -> str:
    """A speedup with its interval: ``2.41 [2.38 2.45]``, or ``33.5 (unclear)`` where that spans too much to say."""
    if bounds is None:
        return MISSING
    if unclear(bounds):
        return f"{speedup(bounds.estimate)} (unclear)"
    return f"{speedup(bounds.estimate)} [{speedup(bounds.low)} {speedup(bounds.high)}]"


def rate(per_second: Bounds | None, *, unsteady: bool = False) -> str:
    """The estimate of a rate; ``19.6?`` where its samples do not agree on it."""
    return MISSING if per_second is None else significant(per_second.estimate) + _doubt(unsteady)


def _doubt(unsteady: bool) -> str:
    return DOUBT if unsteady else ""


def error_over_bound(parity: ParityCell | None) -> str:
    """``4e-4 of 1e-3``: the error and the bound that it was held to."""
    if parity is None:
        return MISSING
    return f"{_short_exponent(parity.relative_l2)} of {_short_exponent(parity.bound)}"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def duration(seconds: float) -> str:
    """A wall-clock time for people: 48 s, 3 min 20 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _short_exponent(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def printable(text: str) -> str:
    """Text without control characters: a stored record must not drive the terminal or break a file's format."""
    return "".join(mark if mark.isprintable() or mark == "\n" else "\N{REPLACEMENT CHARACTER}" for mark in text)
