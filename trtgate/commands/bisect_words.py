"""What ``trtgate bisect`` says of what it found: in sentences, and the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trtgate.measure.bisect import Bisection
    from trtgate.measure.bisect_search import Culprit
    from trtgate.measure.tensor_error import TensorError
    from trtgate.record import Parity

_DISTURBANCE: Final = (
    "A tensor that is shown is not fused away, so what was compared may differ from the engine that parity judged."
)


@dataclass(frozen=True, slots=True)
class Words:
    """A search, ready to be told.

    Attributes:
        target: what was searched, as it was named.
        limit: relative L2 error that counts as rounding.
        found: by seed, in the order of the search; at least one, and only the last may have found a fault.
        parity: of the case, where the search found nothing and parity can judge it.
        unproven: why parity cannot; empty where it can, or has nothing to do with it.
        notes: what the search had to do without.
    """

    target: str
    limit: float
    found: Mapping[int, Bisection]
    parity: Parity | None
    unproven: str
    notes: Sequence[str]

    @property
    def _last(self) -> Bisection:
        return list(self.found.values())[-1]

    @property
    def _worst(self) -> float:
        return max(one.relative_l2 for search in self.found.values() for one in search.outputs)

    def as_json(self) -> str:
        """Everything, for machines; what is NaN or infinite is null."""
        last = self._last
        told = {
            "target": self.target,
            "limit": self.limit,
            "seeds": list(self.found),
            "seed": list(self.found)[-1],
            "worst": self._worst,
            "culprit": None if last.culprit is None else _culprit(last.culprit),
            "unstable": last.unstable,
            "stopped_at": None if last.stopped_at is None else asdict(last.stopped_at),
            "outputs": [asdict(one) for one in last.outputs],
            "tensors": len(last.seen),
            "compared": [asdict(one) for one in last.seen.values()],
            "runs": sum(one.probes for one in self.found.values()),
            "parity": None if self.parity is None else {"passed": self.parity.passed, "message": self.parity.message},
            "unproven": self.unproven,
            "notes": list(self.notes),
            "warning": _DISTURBANCE,
        }
        return json.dumps(_plain(told), indent=1, allow_nan=False)

    def as_text(self) -> str:
        """Everything, for a person."""
        last, seed = self._last, list(self.found)[-1]
        if last.culprit is None and not last.unstable and last.stopped_at is None:
            return "\n".join(self._nothing_found())
        compared = f"{len(last.seen)} tensors of seed {seed} were compared in {last.probes} runs. {_DISTURBANCE}"
        if last.culprit is not None:
            return "\n".join([*sentences(last.culprit, self.target, self.limit), compared])
        if last.stopped_at is not None:
            return (
                f"{self.target}: the search was stopped after {last.probes} runs. So far "
                f"{_described(last.stopped_at)}: the fault is in what makes this tensor, or before it. Allow more runs "
                f"with --max-runs.\n{compared}"
            )
        return (
            f"{self.target}: '{last.unstable}' was wrong in one build of the engine and right in the next, with "
            "nothing else shown: builds of it differ, and this search cannot tell where. Run it again, or compare two "
            f"builds with 'trtgate inspect --against'.\n{compared}"
        )

    def _nothing_found(self) -> list[str]:
        worst = self._worst
        lines = [
            f"{self.target}: no output is wrong on the seeds {', '.join(map(str, self.found))}: the largest relative "
            f"error is {worst:.2e}, and up to {self.limit:.1e} counts as rounding."
        ]
        if self.unproven:
            lines.append(f"Parity cannot judge this case: {self.unproven}")
        elif self.parity is not None and self.parity.passed:
            lines.append("The case passes parity.")
        elif self.parity is not None:
            lower = f" with a lower limit, such as --limit {worst / 2:.1e}, or" if worst > 0 else ""
            lines += [
                f"Yet it fails parity: {self.parity.message}",
                f"Search{lower} on other batches with --seed. If nothing is found there either, builds of the engine "
                "differ, or the ONNX file itself is not the model, for it is the reference here too: the parity of the "
                "onnxruntime case of this cell, which runs the same file, tells which.",
            ]
        return lines


def sentences(culprit: Culprit, target: str, limit: float) -> list[str]:
    """What is said of a node whose error jumps, line by line."""
    out = culprit.output
    if culprit.masking:
        jump = (
            f"{target}: the fault is in a fusion. The error shows at node '{culprit.node}' ({culprit.op}), and goes "
            "away when one of the tensors is shown that are marked with 'fused'."
        )
    else:
        jump = f"{target}: the error jumps at node '{culprit.node}' ({culprit.op})."
    lines = [
        jump,
        f"  output {_described(out)}",
        *(f"  fused  {_described(one.tensor)}, made by '{one.node}' ({one.op})" for one in culprit.masking),
        *(f"  input  {_described(one)}" for one in culprit.inputs),
        *(f"  input  '{name}' could not be shown" for name in culprit.hidden),
    ]
    if out.overflows:
        lines.append(
            f"  Its values reach {max(abs(out.low), abs(out.high)):.4g}, more than {out.datatype} holds: an overflow. "
            "Keep this node in a wider type, or scale its inputs."
        )
    if culprit.cut_off:
        lines.append("  Other tensors of the fusion were not tried: each takes a build of the engine.")
    lines.append(f"  A relative L2 error up to {limit:.1e} counts as rounding.")
    return lines


def _culprit(culprit: Culprit) -> dict[str, Any]:
    return asdict(culprit) | {"growth": culprit.growth, "overflows": culprit.output.overflows}


def _described(one: TensorError) -> str:
    broken = f", {one.non_finite} elements NaN or infinite" if one.non_finite else ""
    return (
        f"'{one.tensor}' {one.datatype or 'of unknown type'}, in the reference from {one.low:.4g} to {one.high:.4g}: "
        f"relative error {one.relative_l2:.2e}{broken}"
    )


def _plain(value: Any) -> Any:
    """Plain JSON, which has neither infinity nor NaN: None stands for them."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
