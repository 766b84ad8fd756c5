"""Optimisation tests: each of TensorRT's claims as a property of a census, with what breaks it named by layer.

Nothing here runs an engine. A violation is a sentence for a person; counts are plain integers of which more is worse,
so that a history can be compared (`trtgate.judge.census`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from trtgate.case import Case, Precision
from trtgate.measure.census import Census, Datatype, Layer, Role
from trtgate.measure.compute_share import constants_of, duplicates, facts
from trtgate.measure.precision_check import check_precision
from trtgate.measure.violation import Violation
from trtgate.policy.optimisation import OptimisationSettings
from trtgate.workloads.micro_models import MicroModel

_HALF: Final = (Precision.FP16, Precision.BF16)


@dataclass(slots=True)
class Findings:
    """What a round of checks found: violations, and counts of which more is worse."""

    violations: list[Violation] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def facts(self, census: Census) -> dict[str, Any]:
        """Plain JSON for a record of the quantity ``optimisation``."""
        return facts(census) | {
            "counts": dict(self.counts),
            "violations": [f"{one.check}: {one.message}" for one in self.violations],
        }


def working_layers(census: Census, nodes: Sequence[str]) -> tuple[Layer, ...]:
    """The layers that do work of any of the nodes, layout changes left out, in execution order."""
    wanted = set(nodes)
    return tuple(
        layer
        for layer in census.layers
        if layer.role in (Role.COMPUTE, Role.POINTWISE) and not wanted.isdisjoint(layer.sources)
    )


def check_one_layer(census: Census, nodes: Sequence[str]) -> list[Violation]:
    """Operator fusion: these nodes run in a single layer, and all of them are accounted for."""
    layers = working_layers(census, nodes)
    names = tuple(layer.name for layer in layers)
    missing = sorted(set(nodes) - {name for layer in layers for name in layer.sources})
    if missing:
        return [Violation("operator fusion", f"no layer says that it does {', '.join(missing)}.", names)]
    if len(layers) > 1:
        return [
            Violation(
                "operator fusion",
                f"{' + '.join(nodes)} run in {len(layers)} layers instead of one: {', '.join(names)}.",
                names,
            )
        ]
    return []


def check_attention(census: Census, nodes: Sequence[str], at_most: int) -> list[Violation]:
    """Operator fusion: an attention block runs in at most so many kernels; says into how many it fell."""
    layers = working_layers(census, nodes)
    names = tuple(layer.name for layer in layers)
    if not layers:
        return [Violation("operator fusion", "no layer says that it does the attention block.")]
    if len(layers) > at_most:
        return [
            Violation(
                "operator fusion",
                f"attention fell into {len(layers)} kernels, at most {at_most} are expected: {', '.join(names)}.",
                names,
            )
        ]
    return []


def check_merged(census: Census, nodes: Sequence[str], at_most: int | None) -> list[Violation]:
    """Tensor fusion: products that share an input run in at most so many layers, where this runtime merges them.

    Args:
        census: of the engine.
        nodes: the products.
        at_most: None where nothing is known of the runtime; their number is then left to the history.
    """
    layers = working_layers(census, nodes)
    names = tuple(layer.name for layer in layers)
    missing = sorted(set(nodes) - {name for layer in layers for name in layer.sources})
    if missing:
        return [Violation("tensor fusion", f"no layer says that it does {', '.join(missing)}.", names)]
    if at_most is not None and len(layers) > at_most:
        return [
            Violation(
                "tensor fusion",
                f"{', '.join(nodes)} run in {len(layers)} layers, at most {at_most} are expected of {census.runtime}: "
                f"{', '.join(names)}.",
                names,
            )
        ]
    return []


def check_nodes_per_layer(census: Census, at_least: float, reason: str) -> list[Violation]:
    """Operator fusion over a whole model: source nodes a kernel, on average.

    Args:
        census: with its source graph.
        at_least: the floor.
        reason: where the floor comes from.
    """
    told = facts(census)
    if told["nodes_per_layer"] >= at_least:
        return []
    alone = tuple(layer.name for layer in census.layers if layer.role is Role.POINTWISE and len(layer.sources) == 1)
    return [
        Violation(
            "operator fusion",
            f"{told['source_nodes']} nodes run in {told['kernels']} kernels, {told['nodes_per_layer']:.2f} nodes each; "
            f"the floor is {at_least:.2f} ({reason}).",
            alone,
        )
    ]


def check_graph(census: Census, constants_left: int = 0) -> list[Violation]:
    """Graph optimisation: no constant is computed at run time, nothing twice, nothing dead.

    Args:
        census: with its source graph.
        constants_left: how many constants may be computed all the same.
    """
    found = []
    left = constants_of(census).left
    for name in left if len(left) > constants_left else ():
        layers = tuple(layer.name for layer in census.covering(name))
        found.append(Violation("graph optimisation", f"constant '{name}' is computed in {', '.join(layers)}.", layers))
    _, repeated = duplicates(census)
    for name in repeated:
        layers = tuple(layer.name for layer in census.covering(name))
        found.append(Violation("graph optimisation", f"'{name}' repeats another node and is still computed.", layers))
    for node in census.sources:
        layers = tuple(layer.name for layer in census.covering(node.name))
        if node.dead and layers:
            found.append(Violation("graph optimisation", f"no output needs '{node.name}', yet it is computed.", layers))
    return found


def check_absent(census: Census, nodes: Sequence[str], operations: Sequence[str]) -> list[Violation]:
    """Graph optimisation: nothing is left of these nodes, and no kernel spells these operations."""
    found = []
    for name in nodes:
        layers = tuple(layer.name for layer in census.covering(name))
        if layers:
            found.append(Violation("graph optimisation", f"'{name}' is left in {', '.join(layers)}.", layers))
    for layer in census.layers:
        # Runtimes that do not spell operations in names say them as the layer's type.
        spelt = [one for one in operations if one in layer.operations or layer.kind.lower().startswith(one.lower())]
        if spelt:
            found.append(
                Violation(
                    "graph optimisation",
                    f"layer '{layer.name}' does {', '.join(spelt)}, which should have been optimised away.",
                    (layer.name,),
                )
            )
    return found


def check_micro(
    census: Census, model: MicroModel, precision: Precision, settings: OptimisationSettings, case_id: str
) -> Findings:
    """Everything that a micro model claims.

    Args:
        census: of the engine that was built from it.
        model: the micro model.
        precision: in which it was built.
        settings: policy.
        case_id: for explanations of single layers.
    """
    found = Findings()
    for group in model.one_layer:
        found.violations += check_one_layer(census, group)
    if model.attention:
        found.counts["attention_kernels"] = len(working_layers(census, model.attention))
        # Fused attention exists in half precision alone.
        limit = settings.attention_kernels if precision in _HALF else settings.attention_kernels_float32
        found.violations += check_attention(census, model.attention, limit)
    if model.merged:
        found.counts[f"layers_of_{model.name}"] = len(working_layers(census, model.merged))
        found.violations += check_merged(census, model.merged, settings.merged_layers_for(model.name, census.runtime))
    found.violations += check_absent(census, model.absent, model.absent_operations)
    found.violations += check_graph(census)
    found.violations += check_precision(census, precision, settings, case_id)
    return found


def check_case(
    census: Census,
    case: Case,
    settings: OptimisationSettings,
    left_alone: Mapping[str, Datatype] = MappingProxyType({}),
) -> Findings:
    """Everything that the census of a whole model must show: precision, nodes per layer, nothing redundant.

    Args:
        census: with its source graph and runtime.
        case: which it is the census of.
        settings: policy.
        left_alone: nodes that a rule of the quantiser's left in high precision, and which datatype that is.
    """
    found = Findings()
    for floor in settings.layer_floors_for(case, census.runtime):
        found.violations += check_nodes_per_layer(census, floor.nodes_per_layer, floor.reason)
    found.violations += check_precision(census, case.precision, settings, case.id, left_alone)
    found.violations += check_graph(census, settings.constants_left_for(case, census.runtime))
    return found


def check_coverage(coverage: Mapping[str, Any]) -> list[Violation]:
    """Coverage: torch-tensorrt runs the whole model in one block, or the operators that broke it are named.

    Args:
        coverage: ``blocks`` (TensorRT blocks) and ``fell_back`` (operators that PyTorch runs).
    """
    if coverage["blocks"] == 1 and not coverage["fell_back"]:
        return []
    broken = ", ".join(coverage["fell_back"]) or "no operator is named"
    return [
        Violation("coverage", f"the model runs in {coverage['blocks']} TensorRT blocks; left to PyTorch: {broken}.")
    ]
