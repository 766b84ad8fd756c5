"""Which cases a gate compares, and who takes turns on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trtgate.case import BackendName, Case, Execution, Precision, Quantity
from trtgate.errors import UsageError
from trtgate.gate.crew import Contest, Seat
from trtgate.gate.member import Build
from trtgate.policy.gate import GateSettings

BASE, HEAD, TWIN = "base", "head", "twin"
AA, CHANGE = "aa", "head"

_GPU_WORKLOADS = ("simple_cnn", "resnet18", "resnet50", "mobilenet_v3_small", "vit_b_16", "transformer")
_CPU_WORKLOADS = ("simple_cnn", "mobilenet_v3_small", "resnet18")


def default_cases(device: str) -> tuple[str, ...]:
    """The cases of a gate whose trtgate.toml names none.

    On a GPU graphed rows, whose device time repeats well enough to judge 1%; on a CPU what finishes soon.
    """
    if device == "cuda":
        cells = [
            Case(workload, backend, Precision.FP16, 8, 128 if workload == "transformer" else None, Execution.GRAPH)
            for workload in _GPU_WORKLOADS
            for backend in (BackendName.EAGER, BackendName.TENSORRT_ENGINE)
        ]
    else:
        cells = [
            Case(workload, backend, Precision.FP32, 1)
            for workload in _CPU_WORKLOADS
            for backend in (BackendName.EAGER, BackendName.ONNXRUNTIME)
        ]
    return tuple(cell.id for cell in cells)


def cases_of(base: GateSettings, head: GateSettings, wanted: Sequence[str], device: str) -> tuple[str, ...]:
    """Every case that either side knows of, so that a change cannot take a case out of its own examination.

    Args:
        base: settings of the base's trtgate.toml.
        head: settings of the head's.
        wanted: cases named on the command line, which win over both.
        device: ``cuda`` or ``cpu``.
    """
    if wanted:
        return tuple(dict.fromkeys(wanted))
    default = default_cases(device)
    return tuple(dict.fromkeys((*(base.cases or default), *(head.cases or default))))


def quantities_of(settings: GateSettings, wanted: Sequence[Quantity], device: str) -> tuple[Quantity, ...]:
    """What is judged: as named, else device time (latency where there is no GPU) and parity.

    Raises:
        UsageError: build time is to be judged and pairs share builds.
    """
    usual = (Quantity.DEVICE if device == "cuda" else Quantity.LATENCY, Quantity.PARITY)
    judged = tuple(dict.fromkeys(wanted or settings.quantities or usual))
    if Quantity.BUILD in judged and settings.renew_build_every > 1:
        raise UsageError(
            f"Build time is to be judged, and {settings.renew_build_every} pairs share each build.",
            "Leave [gate] renew_build_every at 1.",
        )
    return judged


def builds_differ(case: str) -> bool:
    """Whether two builds of one case may differ by luck, in tactics or in generated code; eager PyTorch builds none."""
    return Case.parse(case).backend is not BackendName.EAGER


def contests_of(cases: Iterable[str], quantities: Iterable[Quantity]) -> list[Contest]:
    """Base and head take turns, and a twin of the base with them: the A/A arm sees what the judged arm sees."""
    quantities = tuple(quantities)
    return [
        Contest(
            case,
            quantity.value,
            tuple(Seat(role, role, Build(case, case)) for role in (BASE, HEAD, TWIN)),
            {CHANGE: (BASE, HEAD), AA: (BASE, TWIN)},
        )
        for case in cases
        for quantity in quantities
    ]
