"""The contract of a backend: how one model becomes something that can be enqueued.

A backend names one vendor's API and nothing else does. It never reads a clock (build stages run under a stopwatch that
the caller passes in), never compares its outputs with anything, and never decides whether a result is good.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from trtgate.errors import BackendAbsentError, UnsupportedCaseError
from trtgate.precision.calibration import CalibrationSpec

if TYPE_CHECKING:
    import torch

    from trtgate.case import Case
    from trtgate.workloads.base import Workload


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes, or no with the reason in one sentence. True in a condition when it is yes."""

    yes: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.yes


YES = Answer(True)


def no(reason: str) -> Answer:
    """A refusal; the reason is one sentence and ends with a full stop."""
    return Answer(False, reason)


class Stopwatch(Protocol):
    """Times the stages of a build. `trtgate.measure.timing.BuildStopwatch` is the real one."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Run the body as the stage ``name``: export, parse, compile, build, load, first_inference."""
        ...


@dataclass(slots=True)
class Facts:
    """What is known of a built runner. Sizes are bytes.

    Attributes:
        plan_bytes: size of the serialised engine or compiled artefact, None where there is none.
        device_memory_bytes: what the runtime says it needs for activations, None where it does not say.
        layers: layers or kernels of the optimised model, None where the runtime does not tell.
        from_cache: whether the expensive artefact was read from the cache instead of built.
        captured: whether an inference is the replay of a captured CUDA graph.
        details: further plain-JSON facts, such as operators that fell back to PyTorch.
    """

    plan_bytes: int | None = None
    device_memory_bytes: int | None = None
    layers: int | None = None
    from_cache: bool = False
    captured: bool = False
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a backend is given to build with.

    Attributes:
        device: where the runner will compute.
        stream: the CUDA stream that every runner of a measurement shares, never the default one; None on the CPU.
        cache: folder for artefacts; a backend keeps to its own sub-folder.
        stopwatch: times the build stages.
        calibration: what sets the ranges of a quantised case.
    """

    device: torch.device
    stream: torch.cuda.Stream | None
    cache: Path
    stopwatch: Stopwatch
    calibration: CalibrationSpec = field(default_factory=CalibrationSpec)


class Runner(ABC):
    """A built model, ready to be enqueued. Use it as a context manager, or call `close`."""

    def __init__(self) -> None:
        self.facts = Facts()

    @abstractmethod
    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Make these tensors the inputs of every following inference.

        Args:
            inputs: on the context's device, in the workload's order, of the case's shape; floating-point tensors in any
                floating dtype. The runner converts them once, here, to what its model takes.
        """

    @abstractmethod
    def enqueue(self) -> None:
        """Start one inference on the context's stream. No allocation of device memory, no synchronisation.

        The caller has made the context's stream the current one (``with torch.cuda.stream(...)`` round the whole loop):
        PyTorch's calls and the replay of a CUDA graph go to the current stream, and setting it here would cost every
        inference host time. On the CPU it computes before it returns.
        """

    @abstractmethod
    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The outputs of the last inference, flattened in order.

        The next inference may overwrite them. The caller synchronises before it reads.
        """

    @abstractmethod
    def close(self) -> None:
        """Give every resource back. Calling it twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Backend(ABC):
    """One way to build a workload."""

    name: ClassVar[str]

    @abstractmethod
    def availability(self) -> Answer:
        """Whether this backend can build and run here, or why not in one sentence. Never raises."""

    @abstractmethod
    def supports(self, case: Case) -> Answer:
        """Whether this backend, where it is available, can do the case, or why not in one sentence."""

    @abstractmethod
    def build(self, workload: Workload, case: Case, context: BuildContext) -> Runner:
        """Build the workload for a case.

        Raises:
            BackendAbsentError: `availability` says no.
            UnsupportedCaseError: `supports` says no.
            ExportError, BuildError, CaptureError, OutOfDeviceMemoryError: what went wrong, by name.
        """

    def require_available(self) -> None:
        """Raise `BackendAbsentError` unless the backend can run here."""
        answer = self.availability()
        if not answer:
            raise BackendAbsentError(
                f"The backend '{self.name}' cannot run here: {answer.reason}",
                "Run 'trtgate doctor' to see what is missing.",
            )

    def require_supported(self, case: Case) -> None:
        """Raise `UnsupportedCaseError` unless the backend can do the case."""
        answer = self.supports(case)
        if not answer:
            raise UnsupportedCaseError(
                f"The backend '{self.name}' cannot do {case.id}: {answer.reason}", "Leave this case out."
            )
