"""The gate's end of one worker process."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from trtgate.errors import StorageError, TrtgateError
from trtgate.gate.protocol import PROTOCOL, WORKER_MODULE, Failure, decode, encode

_GOODBYE_S = 5.0
_LOG_LINES = 3


class WorkerLostError(TrtgateError):
    """A worker process crashed, was killed, hung, or never started."""


class Worker:
    """One live process of one side. Requests may be sent ahead; replies come in the same order.

    Args:
        label: the side as messages name it.
        python: interpreter of the side.
        environment: the process's whole environment.
        folder: working folder; first on the worker's import path.
        log: file that takes everything the side's code prints.
        module: what to run.

    Raises:
        WorkerLostError: the interpreter cannot be run.
        StorageError: the log cannot be written.
    """

    def __init__(
        self,
        label: str,
        python: Path,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        module: str = WORKER_MODULE,
    ) -> None:
        self.label = label
        self.log = log
        self._doing = "it started"
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            sink = log.open("ab")
        except OSError as error:
            raise StorageError(f"{log} cannot be written ({error.strerror}).", "Free space there.") from None
        with sink:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                    [str(python), "-m", module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    cwd=folder,
                    env=dict(environment),
                    close_fds=False,  # what is inheritable is: a lock on the GPU (`trtgate.gate.gpu_lock`)
                )
            except OSError as error:
                raise WorkerLostError(
                    f"{python} cannot be run in {folder} ({error.strerror}).",
                    "Name an environment whose interpreter starts.",
                ) from None
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        # A thread of its own reads, so that waiting for a reply can have a time limit on every platform.
        threading.Thread(target=_pump, args=(self._process.stdout, self._replies), daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def greet(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the worker's first line and check that both ends speak one protocol.

        Returns:
            The greeting: protocol, pid, root (folder that holds the worker's trtgate) and python.

        Raises:
            WorkerLostError: it did not start, or speaks another protocol.
        """
        greeting = self._read(timeout_s)
        if greeting.get("protocol") != PROTOCOL:
            self.kill()
            raise WorkerLostError(
                f"The trtgate of the {self.label} side speaks worker protocol {greeting.get('protocol')!r}, "
                f"this one {PROTOCOL}.",
                "Run the gate with a trtgate that is as new as both sides.",
            )
        return greeting

    def send(self, op: str, /, **fields: Any) -> None:
        """Send a request without waiting.

        Raises:
            WorkerLostError: the process is gone.
        """
        self._doing = f"'{op}' {fields.get('case', '')}".strip()
        try:
            self._stdin.write(encode({"op": op, **fields}))
            self._stdin.flush()
        except (BrokenPipeError, OSError):
            raise self._lost() from None

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the reply to the oldest request that is not answered yet.

        Raises:
            WorkerLostError: the process is gone, or did not answer within ``timeout_s`` seconds.
            TrtgateError: what the worker reports; an error that leaves the worker unusable is a `WorkerLostError`.
        """
        reply = self._read(timeout_s)
        if reply.get("ok") is True:
            result: dict[str, Any] = reply["result"]
            return result
        failure = Failure(**reply["error"])
        if failure.fatal:
            self.kill()
            raise WorkerLostError(f"{failure.problem}", f"{failure.fix} {self._tail()}".strip())
        raise failure.raised()

    def call(self, op: str, timeout_s: float, /, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        self.send(op, **fields)
        return self.receive(timeout_s)

    def close(self) -> None:
        """Let the worker end by itself, and kill it if it does not. Calling it twice does no harm."""
        with contextlib.suppress(OSError):  # the pipe of a dead worker: there is nothing left to flush to
            self._stdin.close()
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _read(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise WorkerLostError(
                f"The worker of the {self.label} side gave no answer for {timeout_s:g} s while {self._doing}.",
                "Look for a hang in the log, or raise [gate] timeout_seconds in trtgate.toml. " + self._tail(),
            ) from None
        if not line:
            raise self._lost()
        try:
            return decode(line)
        except ValueError as error:
            self.kill()
            raise WorkerLostError(
                f"The worker of the {self.label} side sent a line that is not of the protocol ({error}).",
                "Run both sides with trtgate releases that know each other. " + self._tail(),
            ) from None

    def _lost(self) -> WorkerLostError:
        code = self._process.wait()
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return WorkerLostError(
            f"The worker process of the {self.label} side {how} while {self._doing}.", f"See {self.log}. {self._tail()}"
        )

    def _tail(self) -> str:
        """The last lines that the side's code printed, for a message."""
        try:
            with self.log.open("rb") as source:
                source.seek(max(0, self.log.stat().st_size - 4096))
                lines = [line.strip() for line in source.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return f"Its log ends: {' | '.join(lines[-_LOG_LINES:])}" if lines else ""


def _pump(source: BinaryIO, sink: queue.SimpleQueue[bytes]) -> None:
    for line in iter(source.readline, b""):
        sink.put(line)
    sink.put(b"")  # the end: whoever waits learns of it at once


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def side_environment(import_path: Sequence[Path], extra: Mapping[str, str], *, inherit_path: bool) -> dict[str, str]:
    """The environment of a side's processes.

    Args:
        import_path: folders that go first on PYTHONPATH.
        extra: further variables, which win over the gate's own.
        inherit_path: whether the gate's own PYTHONPATH follows. An installed environment stands for itself: not there.
    """
    environment = dict(os.environ)
    inherited = environment.pop("PYTHONPATH", "") if inherit_path else ""
    environment.pop("PYTHONPATH", None)
    parts = [str(folder) for folder in import_path] + [part for part in inherited.split(os.pathsep) if part]
    if parts:
        environment["PYTHONPATH"] = os.pathsep.join(parts)
    environment.update(extra)
    return environment
