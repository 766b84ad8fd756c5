"""How quantised rows are calibrated: the section ``[calibration]`` of trtgate.toml."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from trtgate.policy.section import Section


class Method(StrEnum):
    """How a tensor's range is chosen from the values that calibration saw.

    ``max`` keeps the largest magnitude: nothing is clipped. ``entropy`` clips where the Kullback-Leibler divergence
    between the values and their quantised form is least (Migacz, "8-bit inference with TensorRT", GTC 2017); its
    histogram assumes evenly spaced integer levels, so it is for int8 alone.
    """

    MAX = "max"
    ENTROPY = "entropy"


class Placement(StrEnum):
    """Who decides which nodes get Q/DQ pairs: ModelOpt's rules for TensorRT, or every compute node does."""

    TENSORRT = "tensorrt"
    EVERY = "every"


class CalibrationSettings(Section):
    """Which data sets the ranges of a quantised row, and how; one setting for the engine, the others, the reference."""

    method: Method = Field(
        default=Method.MAX,
        description="of int8; fp8 has no evenly spaced levels for entropy to search, and always keeps the maximum",
    )
    count: int = Field(default=64, ge=1, description="examples; 64 pictures quantise resnet50 within a minute of CPU")
    seed: int = Field(default=0, ge=0, description="which of the workload's seeded calibration sets")
    placement: Placement = Field(
        default=Placement.TENSORRT,
        description="of the engine's Q/DQ pairs; ModelOpt's rules leave out what is no faster in int8 or fp8. ONNX "
        "Runtime's models have every node quantised, PyTorch's every convolution and linear layer",
    )
