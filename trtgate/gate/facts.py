"""Quantities that a build states rather than a sampler: plan size, memory, build time, parity error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from trtgate.case import Quantity
from trtgate.record import Identity, Outcome, Parity, Record, Series

STATED = (Quantity.PARITY, Quantity.PLAN, Quantity.MEMORY, Quantity.BUILD)


def stated_records(
    case: str,
    quantities: Sequence[Quantity],
    builds: Sequence[Mapping[str, Any]],
    parity: Parity | None,
    identity: Identity,
) -> list[Record]:
    """The records of one side of one case.

    Args:
        case: id.
        quantities: which of `STATED` to make records of; one that this case does not have is left out.
        builds: what the worker reported of each engine build, in order.
        parity: comparison with the reference, passed; None where there is none.
        identity: machine and stack.
    """
    if not builds:
        return []
    made: list[Record] = []

    def add(quantity: Quantity, values: Sequence[float], facts: Mapping[str, Any] | None = None) -> None:
        made.append(
            Record(
                case=case,
                quantity=quantity,
                outcome=Outcome.MEASURED,
                identity=identity,
                recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
                series=Series.of(values),
                parity=parity if quantity is Quantity.PARITY else None,
                facts=dict(facts or {}),
            )
        )

    plans = [build["plan_bytes"] for build in builds if build.get("plan_bytes") is not None]
    if Quantity.PLAN in quantities and plans:
        add(Quantity.PLAN, plans)
    if Quantity.MEMORY in quantities:
        add(Quantity.MEMORY, [build["footprint_bytes"] for build in builds])
    if Quantity.BUILD in quantities:
        cached = any(build.get("from_cache") for build in builds)
        add(Quantity.BUILD, [sum(build["stages_s"].values()) for build in builds], {"from_cache": cached})
    if Quantity.PARITY in quantities and parity is not None:
        add(Quantity.PARITY, [output.relative_l2 for output in parity.outputs])
    return made
