"""In which datatype the work really runs, and how much of the source graph the optimiser got rid of.

Work is counted by ONNX node (`flops`), attributed to the layer that does it, and read off that layer's operands.
Everything here is arithmetic on a `Census`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final

from trtgate.errors import InspectionError
from trtgate.measure.census import Census, Datatype, Layer, Role, SourceNode

# Myelin's four-letter names of operators that are one operation, so that a name can prove that one is computed. Casts
# are left out: kernels cast on their own account.
_OPERATION_OF: Final = {
    "Add": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "Div": "Div",
    "Sqrt": "Sqrt",
    "Exp": "Exp",
    "Erf": "Erf",
    "Relu": "Relu",
    "Sigmoid": "Sigm",
    "Tanh": "Tanh",
    "Transpose": "Tran",
}
_MOVING: Final = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Concat", "Expand", "Identity"})
_QUANTISING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_HOPPING: Final = _MOVING | {"Transpose", "Cast", "Split", "Pad", "Gather"}


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which layer does the work of one ONNX node.

    Attributes:
        layer: None where no layer says that it covers the node.
        datatype: in which the multiplications run; UNKNOWN without a layer.
    """

    node: SourceNode
    layer: Layer | None
    datatype: Datatype


def attribute(census: Census) -> tuple[Attribution, ...]:
    """Attribute each node with work to a layer. Nodes that are dead, constant or duplicates have no work to do.

    Raises:
        InspectionError: the census has no source graph.
    """
    if not census.sources:
        raise InspectionError(
            "The census has no source graph, so the work of its layers cannot be counted.",
            "Name the ONNX file that the engine was built from, or inspect the case instead of the plan.",
        )
    covering: dict[str, list[Layer]] = defaultdict(list)
    for layer in census.layers:
        for name in layer.sources:
            covering[name].append(layer)
    twins: dict[str, list[str]] = defaultdict(list)
    for node in census.sources:
        if node.duplicate_of is not None:
            twins[node.duplicate_of].append(node.name)
    found = []
    for node in census.sources:
        if not node.flops or node.dead or node.constant or node.duplicate_of is not None:
            continue
        # Of equal nodes the builder may keep any one.
        layers = [layer for name in (node.name, *twins[node.name]) for layer in covering[name]]
        chosen = _computing(layers, node)
        found.append(Attribution(node, chosen, _datatype(chosen, node.activations) if chosen else Datatype.UNKNOWN))
    return tuple(found)


def _computing(layers: list[Layer], node: SourceNode) -> Layer | None:
    """The layer that multiplies: of several that compute, the one in the widest type, which never flatters."""
    computing = [layer for layer in layers if layer.role is Role.COMPUTE]
    # A kernel whose name tells nothing of a product may still hold it; data movement and rounding cannot.
    candidates = computing or [layer for layer in layers if layer.role is Role.POINTWISE and not layer.is_quantisation]
    return max(candidates, key=lambda layer: _datatype(layer, node.activations).bits, default=None)


def _datatype(layer: Layer, activations: int = 1) -> Datatype:
    """The datatype of a layer's operands; int8 stands for integers of eight bits of either sign.

    ONNX Runtime multiplies unsigned activations, and on CPUs without VNNI also weights that it made unsigned.
    """
    found = _operands(layer, activations)
    return Datatype.INT8 if found is Datatype.UINT8 else found


def _operands(layer: Layer, activations: int) -> Datatype:
    """The datatype of a layer's operands as they are stored.

    A residual or a bias that is fused in may be wider than the product, and a weight may be stored narrower than it is
    multiplied. So: with a weight, the weight's type if an input shares it, else the widest of weight and inputs;
    without, the type that at least two inputs share if the node multiplies two activations, else the first input's for
    library kernels (their first input is the activation) and the widest input's for generated ones.
    """
    inputs = [use for use in layer.inputs if use.elements > 1] or list(layer.inputs)
    if not inputs:
        return Datatype.UNKNOWN
    widest = max(inputs, key=lambda use: use.datatype.bits).datatype
    weights = [use for use in layer.constants if use.is_matrix]
    if weights:
        weight = max(weights, key=lambda use: use.elements).datatype
        return (
            weight if any(use.datatype is weight for use in inputs) else max(weight, widest, key=lambda one: one.bits)
        )
    if activations > 1:
        shared, count = Counter(use.datatype for use in inputs).most_common(1)[0]
        return shared if count > 1 else widest
    return widest if layer.operations else inputs[0].datatype


def multiplying(census: Census) -> list[tuple[Layer, Datatype]]:
    """The layers that multiply, each with the datatype of its operands, in execution order."""
    return [(layer, _datatype(layer)) for layer in census.layers if layer.role is Role.COMPUTE]


def shares(census: Census) -> dict[Datatype, float]:
    """Share of the work by the datatype that it runs in; UNKNOWN holds what no layer claims. Sums to 1.

    Raises:
        InspectionError: no source graph, or one without any matrix arithmetic.
    """
    work: dict[Datatype, int] = defaultdict(int)
    for item in attribute(census):
        work[item.datatype] += item.node.flops
    total = sum(work.values())
    if total == 0:
        raise InspectionError(
            "The model has no convolution, matrix product or attention whose work could be counted.",
            "Ask for the layers instead of the shares.",
        )
    return {kind: flops / total for kind, flops in sorted(work.items(), key=lambda pair: -pair[1])}


@dataclass(frozen=True, slots=True)
class Constants:
    """Source nodes that need no input of the model, by name, in the graph's order.

    Attributes:
        folded: no layer covers it, or the layers that do show that they do not compute it.
        left: computed at each inference.
        unproven: covered by a layer that does not show whether it computes it.
    """

    folded: tuple[str, ...]
    left: tuple[str, ...]
    unproven: tuple[str, ...]


def constants_of(census: Census) -> Constants:
    """What became of the nodes that a builder can fold.

    A kernel's metadata lists folded nodes too, because their result went into it, so coverage alone proves nothing. A
    node counts as left where a layer covers constant nodes alone, or where a kernel's name spells its operation and
    none of the live nodes that it covers explains it. Nothing is shown by kernels whose name spells no operations, by
    those that cover a live node which is made of several (Gelu, Softmax, ...), and by those that a live node of the
    same operation explains. ONNX Runtime's layers are whole nodes: a constant node that is computed is one of them.
    """
    by_name = {node.name: node for node in census.sources}
    left: set[str] = set()
    unproven: set[str] = set()
    for layer in census.layers:
        nodes = [by_name[name] for name in layer.sources if name in by_name]
        constant = [node for node in nodes if node.constant]
        live = [node for node in nodes if not node.constant]
        explained = {_OPERATION_OF.get(node.op) for node in live}
        told = bool(layer.operations) and not any(_is_several_operations(node) for node in live)
        for node in constant:
            operation = _OPERATION_OF.get(node.op)
            spelt = operation in layer.operations
            if told and spelt and operation not in explained:
                left.update(other.name for other in ([node] if live else constant))
            elif spelt or not told or operation is None:
                unproven.add(node.name)
        if not live and not layer.operations:
            left.update(node.name for node in constant)
    if census.origin == "onnxruntime":
        unproven.clear()
    names = [node.name for node in census.sources if node.constant and not node.dead]
    return Constants(
        folded=tuple(name for name in names if name not in left | unproven),
        left=tuple(name for name in names if name in left),
        unproven=tuple(name for name in names if name in unproven - left),
    )


def _is_several_operations(node: SourceNode) -> bool:
    """Whether a kernel that covers it may spell any operation on its account."""
    return node.op not in _OPERATION_OF and not node.flops and node.op not in _MOVING


def duplicates(census: Census) -> tuple[list[str], list[str]]:
    """The source nodes that repeat an earlier one: removed, and computed again.

    Both of a pair are computed where layers differ, or where one layer covers both and its output has room for both
    (a horizontal merge of equals saves a launch, not the work).
    """
    by_name = {node.name: node for node in census.sources}
    removed: list[str] = []
    repeated: list[str] = []
    for node in census.sources:
        if node.duplicate_of is None or node.dead or node.constant:
            continue
        own = [layer for layer in census.covering(node.name) if _does(layer, node)]
        other = [layer for layer in census.covering(node.duplicate_of) if _does(layer, by_name[node.duplicate_of])]
        both = [layer for layer in own if layer in other]
        doubled = any(_room_of(layer) >= 2 * node.output_elements for layer in both if node.output_elements)
        (repeated if doubled or (own and other and not both) else removed).append(node.name)
    return removed, repeated


def _room_of(layer: Layer) -> int:
    """Elements that a layer writes; one result that is written in two layouts or datatypes counts once."""
    written: dict[tuple[str, str], int] = defaultdict(int)
    for use in layer.outputs:
        written[use.datatype, use.layout] += use.elements
    return max(written.values(), default=0)


def _does(layer: Layer, node: SourceNode) -> bool:
    return layer.role is Role.COMPUTE if node.flops else layer.role in (Role.COMPUTE, Role.POINTWISE)


def _groups(census: Census) -> dict[str, Any]:
    """Which nodes run together in which kernel; without those that move data, which hop between their neighbours."""
    kept = [node for node in census.sources if not (node.dead or node.constant or node.op in _HOPPING)]
    position = {node.name: index for index, node in enumerate(kept)}
    groups: dict[str, list[int]] = {}
    for layer in census.layers:
        if layer.is_kernel and (own := [position[name] for name in layer.sources if name in position]):
            groups.setdefault(layer.name, []).extend(own)
    return {
        "nodes": [f"{node.op} {node.name}" for node in kept],
        "groups": {name: sorted(set(own)) for name, own in groups.items()},
    }


def facts(census: Census) -> dict[str, Any]:
    """Everything that a history keeps of a census, as plain JSON.

    Returns:
        ``origin``, ``runtime``, ``layers``, ``kernels``, ``kinds`` (layer types), ``compute_layers`` (how many multiply
        in which datatype), ``casts``, ``reformats``; without the source graph ``layer_datatypes`` (of the layers that
        multiply, by name); with it ``source_nodes`` (live, not constant, not quantising),
        ``nodes_per_layer``, ``flops``, ``share`` (of
        the work, by datatype), ``compute`` (by node with work: its layer, datatype and share of the work), ``nodes``
        (operator and name of each node that computes something, in order), ``groups`` (by kernel: positions in
        ``nodes`` of what it does), ``constants_folded``, ``constants_unproven`` (of which no layer shows whether it
        computes them), ``constants_left``, ``duplicates_removed``, ``duplicates_left``, ``dead_left``.
    """
    computing = multiplying(census)
    told: dict[str, Any] = {
        "origin": census.origin,
        "runtime": census.runtime,
        "layers": len(census.layers),
        "kernels": census.kernels,
        "kinds": dict(sorted(Counter(layer.kind for layer in census.layers).items())),
        "compute_layers": dict(sorted(Counter(str(kind) for _, kind in computing).items())),
        "casts": [layer.name for layer in census.layers if layer.is_cast],
        "reformats": [layer.name for layer in census.layers if layer.is_reformat],
    }
    if not census.sources:
        return told | {"layer_datatypes": {layer.name: str(kind) for layer, kind in computing}}
    # A quantiser that adds pairs does not make the builder fuse more.
    live = [node for node in census.sources if not (node.dead or node.constant or node.op in _QUANTISING)]
    items = attribute(census)
    total = sum(item.node.flops for item in items)
    constants = constants_of(census)
    removed, repeated = duplicates(census)
    dead = {node.name for node in census.sources if node.dead}
    return told | {
        "source_nodes": len(live),
        "nodes_per_layer": round(len(live) / max(census.kernels, 1), 3),
        "flops": total,
        "share": {str(kind): round(part, 6) for kind, part in (shares(census) if total else {}).items()},
        "compute": {
            item.node.name: {
                "layer": item.layer.name if item.layer else None,
                "datatype": str(item.datatype),
                "work": round(item.node.flops / total, 6),
            }
            for item in items
        },
        **_groups(census),
        "constants_folded": len(constants.folded),
        "constants_unproven": len(constants.unproven),
        "constants_left": list(constants.left),
        "duplicates_removed": len(removed),
        "duplicates_left": repeated,
        "dead_left": sorted(dead & {name for layer in census.layers for name in layer.sources}),
    }
