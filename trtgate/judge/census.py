"""Whether the optimiser did worse than before: a change of layers is a regression like a slower time.

Pure comparison of the facts that `trtgate.measure.compute_share.facts` and `trtgate.measure.optimisation` put into a
record of the quantity ``optimisation``. A value that only one side has is not compared: identity decides elsewhere
whether two records may be compared at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trtgate.judge.fusion import lost_fusions

# Wider is slower. int8 and fp8 are of one rank: which of them a row wants is its precision's business.
_BITS: Final = {
    "fp64": 64,
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "int8": 8,
    "uint8": 8,
    "fp4": 4,
    "int4": 4,
}
# Shares are kept with six digits.
_SHARE_ROUNDING: Final = 1e-5
_LISTS: Final = {
    "constants_left": "constant that is computed at each inference",
    "duplicates_left": "duplicate that is computed again",
    "dead_left": "dead node in the engine",
    "violations": "optimisation test that fails",
}
_COUNTS: Final = {"kernels": "kernels", "casts": "casts", "reformats": "reformats"}


def compare_census_facts(base: Mapping[str, Any], head: Mapping[str, Any], margin: float = 0.0) -> list[str]:
    """Find what the optimiser does worse in ``head`` than in ``base``.

    Args:
        base: facts of the record that is compared with.
        head: facts of the new record.
        margin: how many more kernels, casts, reformats and the like are no regression yet, as a fraction. What is named
            by its node or layer counts whatever it is.

    Returns:
        One sentence a regression, each naming its layer or node; empty when nothing got worse.
    """
    compute = base.get("compute", {}), head.get("compute", {})
    # The finest of three grains that shows something: nodes; work as a whole, where nodes were renamed; layers alone.
    wider = _nodes(*compute) or _shares(base, head) or _layers(base, head)
    found = [*wider, *lost_fusions(base, head), *_lists(base, head), *_counts(base, head, margin)]
    found.extend(_coverage(base.get("coverage"), head.get("coverage")))
    return found


def _nodes(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """Nodes that run in a wider datatype, or that no layer claims any more."""
    found = []
    for node, before in base.items():
        after = head.get(node)
        if after is None:
            continue
        if before["layer"] is not None and after["layer"] is None:
            found.append(f"node '{node}' is claimed by no layer any more; it was layer '{before['layer']}'.")
        elif _wider(before["datatype"], after["datatype"]):
            found.append(
                f"node '{node}' (layer '{after['layer']}') runs in {after['datatype']}; it ran in {before['datatype']}."
            )
    return found


def _wider(before: str, after: str) -> bool:
    """Whether a datatype is wider than another, or unknown where the other is known."""
    old, new = _BITS.get(before, 0), _BITS.get(after, 0)
    return bool(old) and (new > old or new == 0)


def _shares(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """Datatypes, wider than the narrowest of the base, that do more of the work than before."""
    before, after = base.get("share"), head.get("share")
    if not before or not after:
        return []
    narrowest = min(before, key=_rank)
    return [
        f"{part:.1%} of the work runs in {kind} instead of {before.get(kind, 0.0):.1%}."
        for kind, part in after.items()
        if _wider(narrowest, kind) and part > before.get(kind, 0.0) + _SHARE_ROUNDING
    ]


def _layers(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """Datatypes, wider than the narrowest of the base, in which more layers multiply than before.

    All that there is of torch-tensorrt's engines, whose layers name no ONNX nodes. More layers of the narrowest type
    are a lost fusion, which the number of kernels tells.
    """
    before, after = base.get("compute_layers"), head.get("compute_layers")
    if not before or not after:
        return []
    narrowest = min(before, key=_rank)
    found = []
    for kind, count in after.items():
        if _wider(narrowest, kind) and count > before.get(kind, 0):
            old, new = (_of_datatype(side.get("layer_datatypes", {}), kind) for side in (base, head))
            named = _named(old, new)
            found.append(f"layers that multiply in {kind}: {count} instead of {before.get(kind, 0)}{named}.")
    return found


def _of_datatype(layers: Mapping[str, str], kind: str) -> list[str]:
    return [name for name, datatype in layers.items() if datatype == kind]


def _rank(kind: str) -> int:
    """Bits for sorting: what is unknown is taken for the widest."""
    return _BITS.get(kind, max(_BITS.values()) + 1)


def _lists(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    return [
        f"new {meaning}: {name}."
        for key, meaning in _LISTS.items()
        if key in base and key in head
        for name in head[key]
        if name not in base[key]
    ]


def _counts(base: Mapping[str, Any], head: Mapping[str, Any], margin: float) -> list[str]:
    found = []
    for key, meaning in _COUNTS.items():
        if key not in base or key not in head:
            continue
        before, after = (value if isinstance(value, int) else len(value) for value in (base[key], head[key]))
        if after > before * (1 + margin):
            found.append(f"{after} {meaning} instead of {before}{_named(base[key], head[key])}.")
    for key, after in head.get("counts", {}).items():
        before = base.get("counts", {}).get(key)
        if before is not None and after > before * (1 + margin):
            found.append(f"{key.replace('_', ' ')}: {after} instead of {before}.")
    return found


def _named(base: Any, head: Any) -> str:
    if isinstance(base, int) or isinstance(head, int):
        return ""
    new = [str(name) for name in head if name not in base]
    return f" ({', '.join(new[:5])}{', ...' if len(new) > 5 else ''})" if new else ""


def _coverage(base: Mapping[str, Any] | None, head: Mapping[str, Any] | None) -> list[str]:
    if base is None or head is None:
        return []
    found = []
    if head["blocks"] > base["blocks"]:
        found.append(f"the model runs in {head['blocks']} TensorRT blocks instead of {base['blocks']}.")
    new = sorted(set(head["fell_back"]) - set(base["fell_back"]))
    if new:
        found.append(f"operators that fell back to PyTorch: {', '.join(new)}.")
    return found
