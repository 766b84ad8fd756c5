"""One side's process: builds cases, warms them up, and takes blocks of samples when it is told to.

Run as ``python -m trtgate.gate.worker`` with the side's tree first on the import path. It speaks
`trtgate.gate.protocol` over the stdin and stdout it was started with, and moves both out of the way first: whatever the
side's code prints goes to stderr, which the gate keeps as a log, and whatever reads stdin reads nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import trtgate
from trtgate.errors import UsageError
from trtgate.gate.origins import foreign_modules
from trtgate.gate.protocol import PROTOCOL, Failure, decode, encode, refusal, success


def main() -> int:
    """Greet, then answer requests until stdin ends, as it does when the gate dies."""
    requests, replies = _take_over_pipes()
    replies.write(encode(_greeting()))
    replies.flush()
    # Imported after the greeting: torch takes seconds, and a tree that breaks an import must be able to say so.
    host: Any = None
    for line in iter(requests.readline, b""):
        try:
            message = decode(line)
            if host is None:
                host = _open_host(message)
                reply = success(host.describe())
            else:
                reply = success(_dispatch(host, message))
            encoded = encode(reply)
        except Exception as error:  # noqa: BLE001 - an error travels as a message; the gate decides what it means
            traceback.print_exc()
            encoded = encode(refusal(Failure.of(error, fatal=host is not None and host.is_lost())))
        replies.write(encoded)
        replies.flush()
    if host is not None:
        host.close()
    return 0


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the protocol's two pipes to ourselves, at descriptors that no other code knows of."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, replies


def _greeting() -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "root": str(Path(trtgate.__file__).resolve().parent.parent),
        "python": platform.python_version(),
    }


def _open_host(message: dict[str, Any]) -> Any:
    if message.get("op") != "start":
        raise UsageError(f"The first request is {message.get('op')!r}.", "Send 'start' first.")
    from trtgate.gate.host import Host

    return Host(
        device=message["device"],
        cache=Path(message["cache"]),
        shared=Path(message["shared"]),
        measure=message["measure"],
        parity=message["parity"],
        # An older gate sends neither: the defaults, and all the cores, as it always had them.
        calibration=message.get("calibration", {}),
        provers=message.get("provers", 1),
    )


def _origins(roots: list[str], own: list[str]) -> dict[str, Any]:
    return {"foreign": foreign_modules(roots, own)}


def _dispatch(host: Any, message: dict[str, Any]) -> dict[str, Any]:
    operations: dict[str, Callable[..., dict[str, Any]]] = {
        "survey": host.survey,
        "build": host.build,
        "parity": host.parity,
        "census": host.census,
        "warm_up": host.warm_up,
        "sample": host.sample,
        "drop": host.drop,
        "environment": host.environment,
        "origins": _origins,
    }
    op = message.pop("op", None)
    operation = operations.get(str(op))
    if operation is None:
        raise UsageError(
            f"The worker does not know the request {op!r}.",
            f"Send one of: {', '.join(operations)}; a newer gate needs a newer worker.",
        )
    return operation(**message)


if __name__ == "__main__":
    sys.exit(main())
