"""Every error that a user can meet.

Each message is two sentences: what is wrong, with the value that was seen, and what to do about it.
The command line turns an error into its message and an exit code; it never shows a traceback for one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class TrtgateError(Exception):
    """Base of all errors that are the user's or the machine's to fix.

    Args:
        problem: one sentence that says what is wrong and quotes the value that was seen.
        fix: one sentence that says what to do.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem} {fix}")
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions travel between processes; the default rebuilds from ``args`` and would lose one sentence.
        return (_rebuild, (type(self), self.problem, self.fix), vars(self))


def _rebuild(kind: type[TrtgateError], problem: str, fix: str) -> TrtgateError:
    error = kind.__new__(kind)
    TrtgateError.__init__(error, problem, fix)
    return error


class TrtgateWarning(UserWarning):
    """What a user should know and nothing stops for; the command line prints its message as a plain sentence."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, short enough for a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"


class UsageError(TrtgateError):
    """An option or an argument has a value that cannot be used."""


class UnknownValueError(UsageError):
    """A name is not one of the known ones; the message lists them and suggests the nearest."""

    def __init__(self, kind: str, value: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(value, names, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        super().__init__(f"Unknown {kind} '{value}'.", f"{hint}Use one of: {', '.join(names)}.")


class PolicyError(UsageError):
    """trtgate.toml cannot be read, or says something that has no meaning."""


class RecordError(TrtgateError):
    """A stored record or history is damaged, foreign, or of a version that this release does not read."""


class StorageError(TrtgateError):
    """A folder or file cannot be read or written: missing, read-only, full, or locked by another process."""


class BackendAbsentError(TrtgateError):
    """A backend cannot run here: a package, a driver or a device is missing."""


class UnsupportedCaseError(TrtgateError):
    """A backend is here but cannot do this case."""


class WorkloadError(TrtgateError):
    """A workload's data or weights cannot be had, or would make a comparison of its outputs meaningless."""


class ExportError(TrtgateError):
    """PyTorch could not turn the module into ONNX or an exported program."""


class BuildError(TrtgateError):
    """A backend refused or failed to build a model."""


class ParserError(BuildError):
    """TensorRT's ONNX parser refused the model; the message names each operator and node."""


class OutOfDeviceMemoryError(TrtgateError):
    """The GPU ran out of memory in this case; the other cases go on."""


class PlanError(TrtgateError):
    """A serialised engine is truncated, foreign, or built by another version."""


class CaptureError(TrtgateError):
    """A CUDA graph was asked for and not captured; timings of such a case would carry a wrong name."""


class MeasurementError(TrtgateError):
    """A timing could not be taken honestly."""


class LostDeviceError(MeasurementError):
    """The GPU's context broke for good, as after an illegal access: nothing more can be measured in this process."""


class ProcessDiedError(TrtgateError):
    """A case took the whole process down, time and again: it is not run any more."""


class ParityError(TrtgateError):
    """A candidate does not compute what the reference computes."""


class MissedFloorError(TrtgateError):
    """A speedup is under the floor that the policy sets."""


class UnexpectedPassError(TrtgateError):
    """A row that the policy lists as a known failure passed: the entry is out of date."""


class ChangedFailureError(TrtgateError):
    """A row that the policy lists as a known failure failed with another error: something else is broken too."""


class CalibrationError(TrtgateError):
    """Calibration data cannot be used: wrong shape, NaN, or nothing to quantise."""


class InspectionError(TrtgateError):
    """An engine does not tell enough of itself to be inspected."""


class OptimisationError(TrtgateError):
    """An engine is not what the optimiser is claimed to make: a fusion, a precision or a removal is missing.

    Args:
        problem: what is missing, by layer.
        fix: what to do.
        facts: what the census showed all the same; plain JSON for a record.
    """

    def __init__(self, problem: str, fix: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(problem, fix)
        self.facts = dict(facts or {})


class EnvironmentInvalidError(TrtgateError):
    """The machine is too disturbed for a verdict: even identical code looks different."""


class NothingComparedError(TrtgateError):
    """A gate ended without one comparison, which is never a pass."""
