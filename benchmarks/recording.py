"""One recording of evidence on a GPU: folders, budget, and the running of commands (see record_evidence)."""

from __future__ import annotations

import json
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
        workloads: of the matrix; none for its default.
        low: workloads of the stages ``precisions`` and ``quantised``.
        pairs: pairs of processes to record.
        builders: processes that build ahead of what the suite measures.
        until_s: when the budget is over, on the monotonic clock; None without one.
        stages: exit code and seconds of each attempt, by stage.
    """

    out: Path
    cache: Path
    workloads: Sequence[str]
    low: Sequence[str]
    pairs: int
    builders: int
    until_s: float | None
    stages: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def left_s(self) -> float | None:
        """Seconds of the budget that are left; None without one."""
        return None if self.until_s is None else max(0.0, self.until_s - time.monotonic())

    def run(self, stage: str, commands: Sequence[Command]) -> bool:
        """Run commands of a stage, one after the other; whether none of them was interrupted."""
        for command in commands:
            began_s = time.monotonic()
            with (self.out / f"{stage}.log").open("ab") as log:
                log.write(f"$ {shlex.join(command)}\n".encode())
                log.flush()
                process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
                try:
                    process.wait(self.left_s())
                except subprocess.TimeoutExpired:
                    _interrupt(process)
            told = {"exit": process.returncode, "seconds": round(time.monotonic() - began_s, 1)}
            self.stages.setdefault(stage, []).append(told)
            (self.out / "stages.json").write_text(json.dumps(self.stages, indent=1) + "\n", encoding="utf-8")
            if process.returncode in _INTERRUPTED:
                return False
        return True

    def suite(self, stage: str, *options: str) -> bool:
        """The benchmarks, saved below results/; goes on where an earlier attempt at this stage stopped."""
        started = self.state / f"{stage}.started"
        resume = ["--resume"] if started.exists() else []
        started.touch()
        told = [f"--cache-dir={self.cache}", f"--builders={self.builders}", "--benchmark-autosave", *resume, *options]
        return self.run(stage, [[sys.executable, "-m", "pytest", "benchmarks", *told]])

    @property
    def state(self) -> Path:
        """Where it is noted what is done."""
        return self.cache / "evidence"


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
