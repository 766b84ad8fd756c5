"""Judges what the optimiser made of a model, from the layer censuses of two engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trtgate.judge.census import compare_census_facts
from trtgate.judge.verdict import Decision, Verdict

_SHOWN: Final = 5


def judge_census(base: Mapping[str, Any], head: Mapping[str, Any]) -> Decision:
    """Judge the head's census against the base's, layer by layer.

    Args:
        base: facts of the base, as `trtgate.measure.compute_share.facts` tells them.
        head: the same of the head.

    Returns:
        SLOWER where a layer, cast, fold or datatype is worse; FASTER where only gains are found; else SAME.
    """
    if worse := compare_census_facts(base, head):
        return Decision(Verdict.SLOWER, "facts_changed", f"Worse than in the base: {_listed(worse)}")
    if gained := compare_census_facts(head, base):
        return Decision(Verdict.FASTER, "facts_better", f"Better. The base has: {_listed(gained)}")
    return Decision(Verdict.SAME, "facts_agree", "The optimiser made the same of both.")


def _listed(sentences: list[str]) -> str:
    more = f" And {len(sentences) - _SHOWN} more." if len(sentences) > _SHOWN else ""
    return " ".join(sentences[:_SHOWN]) + more
