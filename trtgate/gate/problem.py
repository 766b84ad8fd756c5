"""What a side computes: the shapes that its own code gives a case's inputs and outputs.

Inputs come from each side's workload. A change that makes them smaller is faster and proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trtgate.workloads.base import Workload


def shapes_of(
    workload: Workload, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
) -> dict[str, list[int]]:
    """Shapes by tensor, as plain JSON.

    Args:
        workload: names them; what it has no name for is numbered.
        inputs: as they are bound for timing.
        outputs: of one inference.
    """
    found = {}
    for kind, names, tensors in (("input", workload.input_names, inputs), ("output", workload.output_names, outputs)):
        for place, tensor in enumerate(tensors):
            name = names[place] if place < len(names) else str(place)
            found[f"{kind} '{name}'"] = list(tensor.shape)
    return found


def apart(base: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    """In what the head's problem is another than the base's; empty where it is the same, or a side does not tell.

    Args:
        base: what the base's worker said of its build; one of an older trtgate has no ``shapes``.
        head: the same of the head's.
    """
    before, after = base.get("shapes"), head.get("shapes")
    if before is None or after is None or before == after:
        return ""
    name = next(name for name in [*before, *after] if before.get(name) != after.get(name))
    told = [f"{tuple(side[name])}" if name in side else "absent" for side in (after, before)]
    return f"it computes something else: its {name} is {told[0]}, the base's {told[1]}"
