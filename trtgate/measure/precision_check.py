"""Precision reduction as a check: the work runs in the precision's own datatype, or someone said why it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from trtgate.case import Precision
from trtgate.measure.census import Census, Datatype
from trtgate.measure.compute_share import Attribution, attribute, multiplying, shares
from trtgate.measure.violation import Violation
from trtgate.policy.optimisation import OptimisationSettings

DATATYPE_OF: Final = {
    Precision.FP32: Datatype.FP32,
    Precision.TF32: Datatype.FP32,
    Precision.FP16: Datatype.FP16,
    Precision.BF16: Datatype.BF16,
    Precision.INT8: Datatype.INT8,
    Precision.FP8: Datatype.FP8,
}
_CHECK: Final = "precision reduction"
_ROUNDING: Final = 1e-9
_NAMED: Final = 10


def check_precision(
    census: Census,
    precision: Precision,
    settings: OptimisationSettings,
    case_id: str,
    left_alone: Mapping[str, Datatype] = MappingProxyType({}),
) -> list[Violation]:
    """The share of work in the precision's datatype, and no unexplained float32 node.

    Work that is explained, by the policy or by a rule of the quantiser's, is taken out before the share is judged: an
    explanation lowers nothing for the rest.

    Args:
        census: with its source graph.
        precision: what the engine was asked for.
        settings: policy.
        case_id: for explanations of single nodes.
        left_alone: nodes that a rule of the quantiser's left in high precision, and which datatype that is.

    Raises:
        InspectionError: the census has no source graph or no matrix arithmetic.
    """
    wanted = DATATYPE_OF[precision]
    by_kind = shares(census)
    items = attribute(census)
    unclaimed = [item.node.name for item in items if item.layer is None]
    found = []
    if unclaimed:
        found.append(Violation(_CHECK, f"no layer says that it does {', '.join(unclaimed)}: its type is unknown."))
    strays = [item for item in items if item.layer is not None and item.datatype is not wanted]
    explained = [
        item
        for item in strays
        if left_alone.get(item.node.name) is item.datatype
        or settings.explanation_for(case_id, item.node.name, item.datatype) is not None
    ]
    unexplained = [item for item in strays if item not in explained]
    found += [
        Violation(
            _CHECK,
            f"node '{item.node.name}' runs in {item.datatype} in layer '{_layer(item)}' of the {precision} engine, and "
            "nothing explains it.",
            (_layer(item),),
        )
        for item in unexplained
        if item.datatype is Datatype.FP32 or not precision.quantised
    ]
    total = sum(item.node.flops for item in items)
    judged = total - sum(item.node.flops for item in explained)
    if not judged:
        return [*found, Violation(_CHECK, f"all of the work is explained away, so none of it runs in {wanted}.")]
    share = by_kind.get(wanted, 0.0) * total / judged
    floor = settings.min_share[precision]
    if share < floor - _ROUNDING:
        work = "the work that nothing explains" if explained else "the work"
        found.append(
            Violation(
                _CHECK,
                f"{share:.1%} of {work} runs in {wanted}, the floor is {floor:.1%}; "
                f"not in {wanted}: {_named(unexplained, total) or 'what no layer claims'}.",
                tuple(_layer(item) for item in unexplained),
            )
        )
    return found


def _named(items: Sequence[Attribution], total: int) -> str:
    """The nodes with their layers, datatypes and parts of all work, the heaviest first."""
    heaviest = sorted(items, key=lambda item: -item.node.flops)
    named = [
        f"'{item.node.name}' in {item.datatype} (layer '{_layer(item)}', {item.node.flops / total:.1%} of all work)"
        for item in heaviest[:_NAMED]
    ]
    return ", ".join(named) + (f", and {len(items) - _NAMED} lighter nodes" if len(items) > _NAMED else "")


def _layer(item: Attribution) -> str:
    return item.layer.name if item.layer is not None else ""


def check_layer_precision(
    census: Census, precision: Precision, settings: OptimisationSettings, case_id: str
) -> list[Violation]:
    """Precision reduction where layers name no ONNX nodes, as torch-tensorrt's do: no unexplained float32 layer.

    Work cannot be shared out, so each layer that multiplies counts alone; an explanation names it in place of a node.
    In a quantised engine half precision is left to the history to judge, since quantisers leave some layers alone.
    """
    wanted = DATATYPE_OF[precision]
    return [
        Violation(
            _CHECK,
            f"layer '{layer.name}' multiplies in {kind} in the {precision} engine, and nothing explains it.",
            (layer.name,),
        )
        for layer, kind in multiplying(census)
        if kind is not wanted
        and (kind is Datatype.FP32 or not precision.quantised)
        and settings.explanation_for(case_id, layer.name, kind) is None
    ]
