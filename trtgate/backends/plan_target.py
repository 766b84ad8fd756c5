"""What shapes a plan beside its model, told without importing torch: what it is for, and the builder's flags."""

from __future__ import annotations

import os
from typing import Final

from trtgate.backends import gpu_by_nvml, gpu_files, trt_rtx
from trtgate.case import Precision

AHEAD_OF_TIME: Final[dict[str, object]] = {"compute_capability": trt_rtx.AHEAD_OF_TIME_TARGET}
"""Of a plan that is built where there is no GPU."""


def here() -> dict[str, object] | None:
    """The target of a plan that is built here: the GPU, or `AHEAD_OF_TIME` without one; None where only torch knows."""
    if not gpu_files.gpu_possible() or gpu_by_nvml.hidden():
        return AHEAD_OF_TIME
    return gpu_by_nvml.gpu()


def flags(precision: Precision) -> dict[str, object]:
    """How the builder is configured, as far as it shapes a plan."""
    return {
        "tf32": precision is Precision.TF32,
        "tf32_override": tf32_override(),
        "profiling_verbosity": "DETAILED",
        "strongly_typed": True,
    }


def tf32_override() -> str | None:
    """NVIDIA_TF32_OVERRIDE as it is set: it overrules the TF32 flag, and with it the kernels that are chosen."""
    return os.environ.get("NVIDIA_TF32_OVERRIDE")
