"""Judges what the optimiser made of a model, from the layer censuses of two engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from trtgate.judge.census import compare_census_facts
from trtgate.judge.verdict import Decision, Verdict

_SHOWN: Final = 5
_PER_WORK: Final = ("compute", "share", "compute_layers")  # a model that multiplies has all of what its backend tells


def judge_census(base: Mapping[str, Any], head: Mapping[str, Any], margin: float = 0.0) -> Decision:
    """Judge the head's census against the base's, layer by layer.

    Args:
        base: facts of the base, as `trtgate.measure.compute_share.facts` tells them.
        head: the same of the head.
        margin: as in `compare_census_facts`.

    Returns:
        SLOWER where a layer, cast, fold or datatype is worse, or the head no longer tells what the base tells; FASTER
        where only gains are found; else SAME.
    """
    emptied = [key for key in _PER_WORK if base.get(key) and key in head and not head[key]]
    if untold := sorted({*(base.keys() - head.keys()), *emptied}):
        reason = f"The base's record states {', '.join(untold)}; the head's does not."
        return Decision(Verdict.SLOWER, "facts_missing", reason)
    if worse := compare_census_facts(base, head, margin):
        return Decision(Verdict.SLOWER, "facts_changed", f"Worse than in the base: {_listed(worse)}")
    if gained := compare_census_facts(head, base, margin):
        return Decision(Verdict.FASTER, "facts_better", f"Better. The base has: {_listed(gained)}")
    return Decision(Verdict.SAME, "facts_agree", "The optimiser made the same of both.")


def agreed(decisions: Sequence[Decision]) -> Decision:
    """What most pairs of builds say. Two builds of one model may choose other layers, and one pair is then luck.

    Args:
        decisions: one a pair of builds, base against head; at least one.

    Returns:
        The first decision of the verdict that more than half of them have; INCONCLUSIVE where there is none.
    """
    (verdict, count), *_ = Counter(decision.verdict for decision in decisions).most_common()
    first = next(decision for decision in decisions if decision.verdict is verdict)
    if count == len(decisions):
        return first
    if 2 * count > len(decisions):
        return replace(first, reason=f"{first.reason} So it is in {count} of {len(decisions)} pairs of builds.")
    said = " ".join(f"Builds {place}: {decision.verdict}." for place, decision in enumerate(decisions, start=1))
    return Decision(Verdict.INCONCLUSIVE, "builds_differ", f"The pairs of builds do not agree. {said}")


def _listed(sentences: list[str]) -> str:
    more = f" And {len(sentences) - _SHOWN} more." if len(sentences) > _SHOWN else ""
    return " ".join(sentences[:_SHOWN]) + more
