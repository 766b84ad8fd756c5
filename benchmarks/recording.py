"""One recording of evidence on a GPU: folders, budget, and the running of commands (see record_evidence)."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
GRACE_S: Final = 60.0  # pytest saves what it has when it is interrupted
_INTERRUPTED: Final = (-signal.SIGINT, -signal.SIGKILL, 2, 130)  # pytest's own code for an interruption is 2
Command = list[str]


@dataclass(slots=True)
class Recording:
    """What the stages share.

    Attributes:
        out: folder of logs and small results.
        cache: folder of weights, engines, journals, and of what is not done yet.
        workloads: of the matrix.
        low: workloads of the stages ``precisions`` and ``quantised``.
        pairs: pairs of processes to record.
        builders: processes that build at once.
        gpus: what the builders take turns on, as CUDA_VISIBLE_DEVICES names them; none to leave that variable alone.
        until_s: when the budget is over, on the monotonic clock; None without one.
        stages: exit code and seconds of each attempt, by stage.
    """

    out: Path
    cache: Path
    workloads: Sequence[str]
    low: Sequence[str]
    pairs: int
    builders: int
    gpus: Sequence[str]
    until_s: float | None
    stages: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def left_s(self) -> float | None:
        """Seconds of the budget that are left; None without one."""
        return None if self.until_s is None else max(0.0, self.until_s - time.monotonic())

    def run(self, stage: str, commands: Sequence[Command], at_once: int = 1) -> bool:
        """Run commands of a stage, a few at once; whether none of them was interrupted."""
        whole = True
        queue, live = list(commands), dict[subprocess.Popen[bytes], float]()
        turns = itertools.cycle(_shares(at_once, self.gpus) if at_once > 1 else [{}])
        while (queue or live) and whole:
            while queue and len(live) < at_once:
                command, where = queue.pop(0), os.environ | next(turns)
                # One log, or one each: the lines of processes that run at once would mix.
                path = self.out / f"{stage}.log" if at_once == 1 else self.state / f"{stage}-{len(queue)}.log"
                with path.open("ab") as log:
                    log.write(f"$ {shlex.join(command)}\n".encode())
                    log.flush()
                    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=where)  # noqa: S603
                live[process] = time.monotonic()
            ended = self._ended(list(live))
            whole = bool(ended) and all(process.returncode not in _INTERRUPTED for process in ended)
            for process in ended:
                told = {"exit": process.returncode, "seconds": round(time.monotonic() - live.pop(process), 1)}
                self.stages.setdefault(stage, []).append(told)
        for process in live:
            _interrupt(process)
        if at_once > 1:
            logs = sorted(self.state.glob(f"{stage}-*.log"), key=lambda path: path.stat().st_mtime)
            (self.out / f"{stage}.log").write_bytes(b"".join(path.read_bytes() for path in logs))
        (self.out / "stages.json").write_text(json.dumps(self.stages, indent=1) + "\n", encoding="utf-8")
        return whole

    def _ended(self, live: Sequence[subprocess.Popen[bytes]]) -> list[subprocess.Popen[bytes]]:
        """Those that ended first; none when the budget was over before."""
        while True:
            if ended := [process for process in live if process.poll() is not None]:
                return ended
            if self.left_s() == 0.0:
                return []
            time.sleep(0.2)

    def suite(self, stage: str, *options: str) -> bool:
        """The benchmarks, saved below results/; goes on where an earlier attempt at this stage stopped."""
        started = self.state / f"{stage}.started"
        resume = ["--resume"] if started.exists() else []
        started.touch()
        command = [*self.pytest(), "--benchmark-autosave", *resume, *options]
        return self.run(stage, [command])

    def pytest(self) -> Command:
        """The benchmarks with this recording's cache."""
        return [sys.executable, "-m", "pytest", "benchmarks", f"--cache-dir={self.cache}"]

    @property
    def state(self) -> Path:
        """Where it is noted what is done."""
        return self.cache / "evidence"


def _shares(at_once: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Environments of processes that run at once: each has its part of the cores, and the next GPU.

    Threads that wait for a core spin: on 32 cores, twelve processes of 32 threads each ended one of 24 builds in 200 s,
    and ten of four threads each ended all in 216 s.
    """
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    shared = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TORCHINDUCTOR_COMPILE_THREADS": threads}
    return [shared | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [shared]


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
