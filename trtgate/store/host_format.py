"""The layout of a pytest-benchmark file, with trtgate's records inside it.

pytest-benchmark reads and compares these files as its own. A row that is a time carries its record in
``extra_info["trtgate"]``; everything else (sizes, parity, failures, skips) is in the top-level ``trtgate.records``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from trtgate.record import Record

KEY: Final = "trtgate"
SCHEMA: Final = 1

Json = dict[str, Any]


def is_row(record: Record) -> bool:
    """Whether a record is a row of the host's table: a measured time. The rest is kept beside the rows."""
    return record.series is not None and record.quantity.unit == "s"


def section(
    status: str, reason: str = "", records: Iterable[Record] = (), *, accepted_at: str | None = None
) -> dict[str, Any]:
    """The top-level ``trtgate`` object of a file.

    Args:
        status: passed, failed or accepted.
        reason: why it failed or was accepted.
        records: those that are not rows (`is_row`).
        accepted_at: ISO 8601 time of the acceptance.
    """
    made: Json = {"schema_version": SCHEMA, "status": status, "reason": reason}
    if accepted_at is not None:
        made["accepted_at"] = accepted_at
    made["records"] = [record.to_json() for record in records]
    return made


def document(records: Sequence[Record], top: Json, created_at: str, nodes: Mapping[tuple[str, str], str]) -> Json:
    """A whole file, as pytest-benchmark would have written it.

    Args:
        records: of one machine, at least one; those that are not rows belong into ``top``.
        top: what `section` made.
        created_at: ISO 8601, UTC.
        nodes: pytest node id by record key; without one the host sees ``trtgate::<case>/<quantity>``.
    """
    commit = next((record.commit for record in records if record.commit), None) or "unversioned"
    return {
        "machine_info": records[0].identity.model_dump(mode="json"),
        "commit_info": {"id": commit, "time": None, "dirty": False, "branch": "(unknown)"},
        "benchmarks": [_row(record, nodes.get(record.key)) for record in records if is_row(record)],
        "datetime": created_at,
        "version": "5.2.0",
        KEY: top,
    }


def dump(data: Json) -> str:
    """Text of a file; one line a row keeps diffs readable and histories small."""
    rows = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in data["benchmarks"])
    rest = {key: value for key, value in data.items() if key != "benchmarks"}
    head = json.dumps(rest, allow_nan=False, separators=(",", ":"))
    return f'{head[:-1]},\n"benchmarks":[\n{rows}\n]}}\n'


def _row(record: Record, node: str | None) -> Json:
    assert record.series is not None, "only measured records become rows"
    fullname = node or f"{KEY}::{record.case}/{record.quantity}"
    return {
        "group": None,
        "name": fullname.rsplit("::", 1)[-1],
        "fullname": fullname,
        "params": {"case": record.case, "quantity": str(record.quantity)},
        "param": f"{record.case}/{record.quantity}",
        "extra_info": {KEY: record.to_json()},
        "options": {"timer": "recorded", "disable_gc": False, "warmup": False},
        "stats": host_statistics(record.series.values),
    }


def host_statistics(samples_s: np.typing.NDArray[np.float64]) -> Json:
    """The statistics that pytest-benchmark stores, without the samples; quartiles are medians of the halves.

    Args:
        samples_s: seconds, shape (rounds,), at least one.
    """
    ordered = np.sort(samples_s)
    rounds = len(ordered)
    q1, median, q3 = _quartiles(ordered)
    iqr, mean, total = q3 - q1, float(np.mean(ordered)), float(np.sum(ordered))
    stddev = float(np.std(ordered, ddof=1)) if rounds > 1 else 0.0
    low_fence, high_fence = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    beyond_stddev = int(np.sum(np.abs(ordered - mean) > stddev))
    beyond_fences = int(np.sum((ordered < low_fence) | (ordered > high_fence)))
    within = ordered[(ordered >= low_fence) & (ordered <= high_fence)]
    return {
        "min": float(ordered[0]),
        "max": float(ordered[-1]),
        "mean": mean,
        "stddev": stddev,
        "rounds": rounds,
        "median": median,
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond_fences,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_fences}",
        "ld15iqr": float(within[0]),
        "hd15iqr": float(within[-1]),
        "ops": rounds / total if total else 0.0,
        "total": total,
        "iterations": 1,
    }


def _quartiles(ordered: np.typing.NDArray[np.float64]) -> tuple[float, float, float]:
    """Quartiles by methods 2 and 3 of https://en.wikipedia.org/wiki/Quartile, which pytest-benchmark uses."""
    rounds = len(ordered)
    median = float(np.median(ordered))
    if rounds == 1:
        return median, median, median
    half = rounds // 2
    if rounds % 2 == 0:
        return float(np.median(ordered[:half])), median, float(np.median(ordered[half:]))
    n = rounds // 4
    if rounds % 4 == 1:
        low = 0.25 * ordered[n - 1] + 0.75 * ordered[n]
        high = 0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1]
    else:
        low = 0.75 * ordered[n] + 0.25 * ordered[n + 1]
        high = 0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2]
    return float(low), median, float(high)
