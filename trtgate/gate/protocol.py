"""What the gate and its workers say to each other: one JSON object a line, over the worker's stdin and stdout.

A request is ``{"op": ..., ...}``; its reply is ``{"ok": true, "result": {...}}`` or ``{"ok": false, "error": {...}}``,
in the order of the requests. The two ends may come from different versions of trtgate, because each side of a gate runs
its own tree's code; `PROTOCOL` says whether they understand each other and changes with every incompatible change.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from trtgate import errors
from trtgate.errors import TrtgateError

PROTOCOL: Final = 1
WORKER_MODULE: Final = "trtgate.gate.worker"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a worker, as it travels.

    Attributes:
        kind: class name of the error.
        problem: what is wrong, one sentence.
        fix: what to do about it, one sentence.
        fatal: whether the worker cannot be used any more, as after an illegal memory access on the GPU.
    """

    kind: str
    problem: str
    fix: str
    fatal: bool = False

    @classmethod
    def of(cls, error: BaseException, *, fatal: bool = False) -> Self:
        """Describe an error. One that trtgate does not know is quoted by its type and its first line."""
        if isinstance(error, TrtgateError):
            return cls(type(error).__name__, error.problem, error.fix, fatal)
        lines = str(error).strip().splitlines() or ["without a message"]
        return cls(
            type(error).__name__,
            f"{type(error).__name__}: {lines[0]}.",
            "Read the worker's log for the traceback.",
            fatal,
        )

    def raised(self) -> TrtgateError:
        """The error to raise on the gate's end: of the same class where this version knows it."""
        kind = getattr(errors, self.kind, None)
        rebuilt = (
            kind.__new__(kind) if isinstance(kind, type) and issubclass(kind, TrtgateError) else TrtgateError("", "")
        )
        TrtgateError.__init__(
            rebuilt, self.problem, self.fix
        )  # some classes build their sentences from other arguments
        return rebuilt


def encode(message: dict[str, Any]) -> bytes:
    """One line. NaN and infinity are refused, because they are not JSON and other readers choke on them.

    Raises:
        ValueError: the message holds NaN or infinity.
    """
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Read one line.

    Raises:
        ValueError: it is not a JSON object.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"a line holds a {type(message).__name__}, not an object")
    return message


def success(result: dict[str, Any]) -> dict[str, Any]:
    """The reply to a request that was done."""
    return {"ok": True, "result": result}


def refusal(failure: Failure) -> dict[str, Any]:
    """The reply to a request that failed."""
    return {"ok": False, "error": asdict(failure)}
