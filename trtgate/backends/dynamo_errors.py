"""What went wrong inside of `torch.compile`, of whose errors the outermost says only who raised."""

from __future__ import annotations


def cause_of(error: BaseException) -> BaseException | None:
    """What `torch.compile` wrapped into an error of its own, if anything."""
    inner: BaseException | None = getattr(error, "inner_exception", None)
    return inner or error.__cause__


def reason_of(error: BaseException) -> str:
    """The innermost error's type and what it says, in one line without a full stop.

    The first line of the outermost one is the same for all failures: "backend='inductor' raised:".
    """
    inner = error
    while isinstance(further := getattr(inner, "inner_exception", None), BaseException):
        inner = further
    said = _said(str(inner))
    if inner is error and said:
        return said  # of Dynamo itself, whose types say less than its words
    return f"{type(inner).__name__}: {said}" if said else type(inner).__name__


def _said(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.startswith("Traceback (") for line in lines):  # of a process that compiles: its error is the last line
        found = lines[-1]
    else:
        compilers = (line for line in lines if ": error: " in line or ": fatal error: " in line)
        telling = (line for line in lines if not line.endswith(":"))  # the others announce what follows
        found = next(compilers, None) or next(telling, " ".join(lines))
    return found.rstrip(".:")
