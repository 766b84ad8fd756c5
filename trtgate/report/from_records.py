"""Rows of a report from the records of one run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trtgate.case import Case, Quantity
from trtgate.judge.stats import excess_spread, median_interval, paired_ratio
from trtgate.policy import Policy
from trtgate.record import Outcome, Parity, Record, without_seen
from trtgate.report import figures
from trtgate.report.rows import BASELINE_NAMES, Bounds, ParityCell, Range, Row, unclear

_WITH_BASELINES = (Quantity.DEVICE, Quantity.LATENCY)
_TIMES = (*_WITH_BASELINES, Quantity.THROUGHPUT)
# `trtgate.judge.stats` gives no interval for fewer.
_FEWEST_SAMPLES = 5
_WORDS = {
    Outcome.MEASURED: "passed",
    Outcome.KNOWN_FAILURE: "known fail",
    Outcome.FAILED: "failed",
}
_BUILT = frozenset({Quantity.BUILD, Quantity.PLAN, Quantity.OPTIMISATION})
# The worst thing that happened to one of a case's quantities speaks for the case.
_GRAVITY = (Outcome.MEASURED, Outcome.KNOWN_FAILURE, Outcome.FAILED)


def rows_of(
    records: Iterable[Record], policy: Policy, verdicts: Mapping[str, tuple[str, str]] | None = None
) -> list[Row]:
    """One row a case; skipped cases are left out.

    Cells, and the cases of each, stand in the order in which they first appear. A stored run holds what failed behind
    all that was timed, which would tear its cells apart.

    Args:
        records: of one run.
        policy: whose confidence the intervals have, and what spread of samples it calls unsteady.
        verdicts: verdict and reason by case id; without one, the row says how its measurements ended.
    """
    cells: dict[tuple[str, ...], dict[str, dict[Quantity, Record]]] = {}
    for record in records:
        if record.outcome is not Outcome.SKIPPED:
            cell = cells.setdefault(Case.parse(record.case).group, {})
            cell.setdefault(record.case, {})[record.quantity] = record
    return [
        _row(case, kept, policy, (verdicts or {}).get(case)) for cell in cells.values() for case, kept in cell.items()
    ]


def skips_of(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What did not run and why: whole cases by their id, and the quantities that are missing of cases that did run."""
    seen = {record.case for record in records if record.outcome is not Outcome.SKIPPED}
    told: dict[str, str] = {}
    for record in records:
        if record.outcome is Outcome.SKIPPED:
            # The first reason of a case stands: a build asks for more than what follows it, which all miss the GPU.
            what = "device time" if record.quantity is Quantity.DEVICE else record.quantity
            told.setdefault(f"{what} of {record.case}" if record.case in seen else record.case, record.reason)
    return sorted(told.items())


def machine_of(records: Sequence[Record]) -> str:
    """What the records were measured on, in one line; empty without records."""
    if not records:
        return ""
    identity = records[0].identity
    parts = [identity.gpu or f"{identity.cpu}, {identity.threads} threads, no GPU"]
    if identity.gpu is not None:
        parts += [f"driver {identity.driver}", f"CUDA {identity.cuda}"]
    parts.append(f"torch {identity.torch}")
    if identity.tensorrt is not None:
        parts.append(f"{identity.tensorrt_flavour} {identity.tensorrt}")
    if records[0].commit is not None:
        parts.append(f"commit {records[0].commit[:12]}")
    return ", ".join(parts)


def _row(case: str, kept: Mapping[Quantity, Record], policy: Policy, verdict: tuple[str, str] | None) -> Row:
    confidence, limit = policy.measure.confidence, policy.judge.spread_warning
    times = {quantity: _median(kept.get(quantity), confidence) for quantity in _TIMES}
    speedups = {quantity: _speedups(kept.get(quantity), confidence) for quantity in _WITH_BASELINES}
    spreads = {quantity: _spread(_samples(kept.get(quantity)), limit) for quantity in _TIMES}
    word, ended = verdict or _how_it_ended(kept)
    doubts = [*_doubts(spreads), *_doubtful_baselines(kept, speedups, limit)]
    note, seen = without_seen(" ".join(filter(None, (ended, *doubts))))
    return Row(
        case=case,
        device_s=times[Quantity.DEVICE],
        latency_s=times[Quantity.LATENCY],
        throughput_per_s=_rate(times[Quantity.THROUGHPUT]),
        device_speedups=speedups[Quantity.DEVICE],
        latency_speedups=speedups[Quantity.LATENCY],
        parity=_worst_output(next((record.parity for record in kept.values() if record.parity is not None), None)),
        verdict=word,
        note=note,
        seen=_without_its_case(seen, case),
        details=_details(kept),
        unsteady=frozenset(quantity.value for quantity, spread in spreads.items() if spread is not None),
        proof=set(kept) == {Quantity.OPTIMISATION},
    )


def _how_it_ended(kept: Mapping[Quantity, Record]) -> tuple[str, str]:
    gravest = max(kept.values(), key=lambda record: _GRAVITY.index(record.outcome))
    if gravest.outcome is not Outcome.MEASURED:
        return _WORDS[gravest.outcome], _without_its_case(gravest.reason, gravest.case)
    missed = [_without_its_case(record.reason, record.case) for record in kept.values() if record.reason]
    if missed:
        return _WORDS[Outcome.FAILED], " ".join(missed)
    # An engine that was built ahead of time has proven nothing of its outputs yet.
    word = "built" if kept.keys() <= _BUILT and Quantity.BUILD in kept else _WORDS[Outcome.MEASURED]
    return word, " ".join(_disturbances(kept))


def _without_its_case(reason: str, case: str) -> str:
    """A reason without the case that it begins with, which its row names already."""
    rest = reason.removeprefix(case)
    return rest.lstrip(": ") if rest[:1] in (":", " ") else reason


def _disturbances(kept: Mapping[Quantity, Record]) -> Iterator[str]:
    """What a reader of a row's times should know of the conditions under which they were taken."""
    for quantity, record in kept.items():
        seen = record.environment
        if seen.discarded_blocks:
            yield f"{quantity}: {seen.discarded_blocks} blocks of samples were thrown away, the GPU was throttled."
        if seen.neighbours:
            yield f"{quantity}: other processes computed on the GPU meanwhile ({', '.join(map(str, seen.neighbours))})."
        if seen.host_bound or seen.host_bound_baselines:
            whose = ["this row's"] if seen.host_bound else []
            whose += [f"{name}'s" for name in seen.host_bound_baselines]
            yield f"{quantity}: the GPU waited for the host in {' and '.join(whose)} samples, and such gaps count."
        if quantity is Quantity.DEVICE and not seen.steady:
            yield f"{quantity}: times were not steady when warm-up ran out of time."


def _doubts(spreads: Mapping[Quantity, float | None]) -> Iterator[str]:
    for quantity, spread in spreads.items():
        if spread is not None:
            yield f"{quantity}: samples spread by {spread:.0%} of their median (interquartile range)."


def _doubtful_baselines(
    kept: Mapping[Quantity, Record], speedups: Mapping[Quantity, Mapping[str, Bounds]], limit: float
) -> Iterator[str]:
    """Why a speedup is unclear, where it is its baseline whose samples lie too far apart."""
    for quantity, cells in speedups.items():
        for name in filter(lambda name: unclear(cells[name]), cells):
            spread = _spread(kept[quantity].baselines[name].series.values, limit)
            if spread is not None:
                title = BASELINE_NAMES.get(name, name)
                yield f"{quantity}: unclear over {title}, whose samples spread by {spread:.0%} of their median."


def _spread(samples: npt.NDArray[np.float64] | None, limit: float) -> float | None:
    return None if samples is None or len(samples) < _FEWEST_SAMPLES else excess_spread(samples, limit)


def _samples(record: Record | None) -> npt.NDArray[np.float64] | None:
    return record.series.values if record is not None and record.series is not None else None


def _median(record: Record | None, confidence: float) -> Bounds | None:
    samples = _samples(record)
    if samples is None or not len(samples):
        return None
    if len(samples) < _FEWEST_SAMPLES:
        # Too few for an interval: their range is all that can be said.
        return Range(float(np.median(samples)), float(samples.min()), float(samples.max()))
    return median_interval(samples, confidence)


def _speedups(record: Record | None, confidence: float) -> dict[str, Bounds]:
    samples = _samples(record)
    if record is None or samples is None or len(samples) < _FEWEST_SAMPLES:
        return {}
    return {
        name: paired_ratio(samples, baseline.series.values, confidence) for name, baseline in record.baselines.items()
    }


def _rate(seconds: Bounds | None) -> Bounds | None:
    if seconds is None:
        return None
    # Samples that lie far apart may leave the shortest time open, and with it the highest rate.
    return Range(1 / seconds.estimate, 1 / seconds.high, 1 / seconds.low if seconds.low > 0 else math.inf)


def _worst_output(parity: Parity | None) -> ParityCell | None:
    if parity is None or not parity.outputs:
        return None
    worst = max(parity.outputs, key=lambda output: output.relative_l2 / output.bound if output.bound else np.inf)
    return ParityCell(worst.relative_l2, worst.bound)


def _details(kept: Mapping[Quantity, Record]) -> dict[str, str]:
    found: dict[str, str] = {}
    for quantity, name in ((Quantity.BUILD, "build s"), (Quantity.PLAN, "plan"), (Quantity.MEMORY, "memory")):
        samples = _samples(kept.get(quantity))
        if samples is not None and len(samples):
            value = float(np.median(samples))
            found[name] = figures.size(value) if quantity.unit == "bytes" else figures.significant(value)
    return found
