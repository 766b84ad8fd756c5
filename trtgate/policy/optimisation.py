"""What a census must show: the section ``[optimisation]`` of trtgate.toml."""

from __future__ import annotations

import fnmatch
from typing import Self

from pydantic import Field, model_validator

from trtgate.case import BackendName, Case, Precision
from trtgate.policy.patterns import PrecisionPattern, Runtime
from trtgate.policy.section import Reason, Section


def _default_shares() -> dict[Precision, float]:
    # Everything, in the datatype of the name. Quantisers leave the first convolution and the head in half precision:
    # 7% of ResNet-18's work (results of ModelOpt 0.47).
    return {precision: 0.9 if precision.quantised else 1.0 for precision in Precision}


class LayerFloor(Section):
    """Source nodes an engine's kernel covers on average, at least: below it, fusions have been lost."""

    workload: str = Field(description="shell pattern for workload names")
    precision: PrecisionPattern = Field(default="*", description="shell pattern for the precision")
    runtime: Runtime = Field(default="*", description="shell pattern for 'tensorrt_rtx 1.4.0.76'")
    nodes_per_layer: float = Field(gt=0, description="ONNX nodes of the model over kernels of the engine")
    reason: Reason

    def applies(self, case: Case, runtime: str) -> bool:
        """Whether this floor names the case on this runtime."""
        return (
            case.backend is BackendName.TENSORRT_ENGINE  # no other backend's layers are held to a number
            and fnmatch.fnmatchcase(case.workload, self.workload)
            and fnmatch.fnmatchcase(case.precision, self.precision)
            and self.is_for(runtime)
        )

    def is_for(self, runtime: str) -> bool:
        """Whether this floor is one of this runtime, whatever the case."""
        return fnmatch.fnmatchcase(runtime, self.runtime)


class ExplainedLayer(Section):
    """Work that may run in another datatype than the case's, and why."""

    case: str = Field(description="shell pattern for case ids")
    node: str = Field(description="shell pattern for ONNX node names; for layer names in torch_tensorrt cases")
    datatype: str = Field(description="in which the work runs, such as fp32")
    reason: Reason


class ConstantLimit(Section):
    """Constants of a model that this runtime is known to compute at each inference."""

    workload: str = Field(description="shell pattern for workload names")
    precision: PrecisionPattern = Field(default="*", description="shell pattern for the precision")
    runtime: Runtime = Field(default="*", description="shell pattern for 'tensorrt_rtx 1.4.0.76'")
    at_most: int = Field(ge=1, description="constants that may be left")
    reason: Reason

    def applies(self, case: Case, runtime: str) -> bool:
        """Whether this limit names the case on this runtime."""
        return (
            fnmatch.fnmatchcase(case.workload, self.workload)
            and fnmatch.fnmatchcase(case.precision, self.precision)
            and fnmatch.fnmatchcase(runtime, self.runtime)
        )


class MergeLimit(Section):
    """Layers in which products of one input may run on a runtime that is known to merge them."""

    model: str = Field(description="shell pattern for names of micro models")
    runtime: Runtime = Field(default="*", description="shell pattern for 'tensorrt_rtx 1.4.0.76'")
    at_most: int = Field(ge=1, description="kernels")
    reason: Reason


class OptimisationSettings(Section):
    """What an engine's census must show."""

    min_share: dict[Precision, float] = Field(
        default_factory=_default_shares,
        description="share of the work that runs in the precision's own datatype, explained work taken out",
    )
    attention_kernels: int = Field(default=1, ge=1, description="kernels of one attention block in half precision")
    attention_kernels_float32: int = Field(
        default=3,
        ge=1,
        description="kernels of one attention block in float32, which has no fused kernel: two products and a softmax "
        "that takes the scale in, as on TensorRT-RTX 1.4 and 1.6",
    )
    quantised_error: float = Field(
        default=2e-2,
        gt=0,
        description="relative L2 error of a quantised micro model that is run, from the same model as written: a few "
        "roundings. Quantising itself moves the model mlp by 4.7e-2, so that it does not pass unquantised",
    )
    layer_floor: tuple[LayerFloor, ...] = ()
    explained: tuple[ExplainedLayer, ...] = ()
    constant_limit: tuple[ConstantLimit, ...] = ()
    merge_limit: tuple[MergeLimit, ...] = ()

    @model_validator(mode="after")
    def _every_precision_has_a_share(self) -> Self:
        object.__setattr__(self, "min_share", _default_shares() | self.min_share)
        return self

    def layer_floors_for(self, case: Case, runtime: str) -> list[LayerFloor]:
        """The floors on nodes per layer that name this case; ``runtime`` is such as 'tensorrt_rtx 1.4.0.76'."""
        return [floor for floor in self.layer_floor if floor.applies(case, runtime)]

    def merged_layers_for(self, model: str, runtime: str) -> int | None:
        """In how many layers a micro model's parallel products may run; None where nobody said so."""
        limits = [
            limit.at_most
            for limit in self.merge_limit
            if fnmatch.fnmatchcase(model, limit.model) and fnmatch.fnmatchcase(runtime, limit.runtime)
        ]
        return min(limits, default=None)

    def constants_left_for(self, case: Case, runtime: str) -> int:
        """How many constants of this case may be left to be computed; 0 where nobody said so."""
        return max((limit.at_most for limit in self.constant_limit if limit.applies(case, runtime)), default=0)

    def explanation_for(self, case_id: str, node: str, datatype: str) -> str | None:
        """Why this node may run in this datatype, None where nobody said so."""
        return next(
            (
                entry.reason
                for entry in self.explained
                if entry.datatype == datatype
                and fnmatch.fnmatchcase(case_id, entry.case)
                and fnmatch.fnmatchcase(node, entry.node)
            ),
            None,
        )
