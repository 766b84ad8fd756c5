"""What a command that builds a case needs: the case, its workload, and where to build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trtgate.backends.base import BuildContext
from trtgate.backends.cuda_device import cuda_answer
from trtgate.case import Case
from trtgate.measure.timing import BuildStopwatch
from trtgate.precision.calibration import CalibrationSpec
from trtgate.workloads import registry

if TYPE_CHECKING:
    from trtgate.policy import Policy
    from trtgate.workloads.base import Workload


def workload_of(case_id: str, cache: Path) -> tuple[Case, Workload]:
    """The case of an id and its workload.

    Args:
        case_id: such as ``resnet18-tensorrt_engine-fp16-b8-graph``.
        cache: folder for weights and data.

    Raises:
        UsageError: not a case id, or a name in it is unknown.
    """
    case = Case.parse(case_id)
    return case, registry.get(case.workload, cache=cache)


def build_context(cache: Path, policy: Policy) -> BuildContext:
    """Build on the GPU where there is one, on a stream of our own, else on the CPU; calibrated as the policy says."""
    calibration = CalibrationSpec.of(policy.calibration)
    if not cuda_answer():
        return BuildContext(torch.device("cpu"), None, cache, BuildStopwatch(), calibration)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    return BuildContext(torch.device("cuda"), stream, cache, BuildStopwatch(), calibration)
