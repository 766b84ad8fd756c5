"""Which cases a gate compares, and who takes turns on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtgate.case import BackendName, Case, Execution, Precision, Quantity
from trtgate.errors import UnknownValueError, UsageError
from trtgate.gate.crew import Contest, Seat
from trtgate.gate.member import Build
from trtgate.policy import Policy
from trtgate.policy.gate import GateSettings
from trtgate.workloads import registry
from trtgate.workloads.known import Known
from trtgate.workloads.possible_rules import require_possible

BASE, HEAD, TWIN = "base", "head", "twin"
AA, CHANGE = "aa", "head"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cases a gate is asked for; what that comes to is known once both sides have told their workloads.

    Attributes:
        base: settings of the base's trtgate.toml.
        head: the policy that the head's trtgate.toml makes. The base's judges, and mistakes in it can only be mended by
            a change: so it is the head's whose rules are held to the workloads that exist.
        device: ``cuda`` or ``cpu``.
        named: cases named on the command line, which win over both files.
    """

    base: GateSettings
    head: Policy
    device: str
    named: tuple[str, ...] = ()

    def cases(self, base: Known, head: Known) -> tuple[str, ...]:
        """Every case that either side knows of, so that a change cannot take a case out of its own examination.

        Args:
            base: the base's workloads.
            head: the head's; nothing is known of them where it does not start.

        Raises:
            PolicyError: a rule of the head's policy names nothing that either side has.
            UnknownValueError: a named case's workload is on neither side.
        """
        require_possible(self.head, "The head's policy", head, base)
        if self.named:
            self._require_registered(base, head)
            return tuple(dict.fromkeys(self.named))
        default = default_cases(self.device, base, head)
        return tuple(dict.fromkeys((*(self.base.cases or default), *(self.head.gate.cases or default))))

    def _require_registered(self, base: Known, head: Known) -> None:
        if not (base.complete and head.complete):
            return
        for text in self.named:
            workload = Case.parse(text).workload
            if workload not in {**base.tokens, **head.tokens}:
                raise UnknownValueError("workload", workload, {**base.tokens, **head.tokens})


def default_cases(device: str, *sides: Known) -> tuple[str, ...]:
    """The cases of a gate whose trtgate.toml names none: of the project's own workloads where it registers any.

    On a GPU graphed rows, whose device time repeats well enough to judge 1%; on a CPU what finishes soon.

    Args:
        device: ``cuda`` or ``cpu``.
        sides: the workloads of base and head.
    """
    tokens = {name: side.tokens[name] or None for side in sides for name in side.project}
    if not tokens:
        own = registry.ON_GPU if device == "cuda" else registry.ON_CPU
        tokens = {name: registry.OWN[name] for name in own}
    if device == "cuda":
        backends, precision, batch = (BackendName.EAGER, BackendName.TENSORRT_ENGINE), Precision.FP16, 8
    else:
        backends, precision, batch = (BackendName.EAGER, BackendName.ONNXRUNTIME), Precision.FP32, 1
    execution = Execution.GRAPH if device == "cuda" else Execution.STREAM
    return tuple(
        Case(workload, backend, precision, batch, sequence, execution).id
        for workload, sequence in tokens.items()
        for backend in backends
    )


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
