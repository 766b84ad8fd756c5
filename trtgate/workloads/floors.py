"""Holds the floors of a policy against the workloads that exist: a floor that no case can meet is a gate that sleeps.

The policy itself does not know the workloads; whoever reads both asks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtgate.errors import PolicyError, UnknownValueError
from trtgate.workloads import registry

if TYPE_CHECKING:
    from trtgate.policy import Floor, Policy


def require_known(policy: Policy) -> None:
    """Refuse floors that name no workload, or a shape that their workload never has.

    Raises:
        PolicyError: a floor names an unknown workload, or its shape has a sequence length and the workload none, or
            the other way round.
    """
    for number, floor in enumerate(policy.floor, start=1):
        _require_known(floor, f"[[floor]] number {number}")


def _require_known(floor: Floor, where: str) -> None:
    try:
        sequence = registry.default_sequence(floor.workload)
    except UnknownValueError as error:
        raise PolicyError(f"{where} of the policy: {error.problem}", error.fix) from None
    if ("s" in floor.shape) is not (sequence is not None):
        has = "has a sequence length" if sequence is not None else "has no sequence length"
        example = f"{floor.shape}s{sequence}" if sequence is not None else floor.shape.partition("s")[0]
        raise PolicyError(
            f"{where} of the policy has the shape '{floor.shape}', and {floor.workload} {has}.",
            f"Write its shape as '{example}'.",
        )
