"""Records on this machine what README.md, results/ and docs/statistics.md say of a GPU, stage by stage.

    python -m benchmarks.record_evidence                         every stage that is not done yet
    python -m benchmarks.record_evidence matrix clock            these, also if they are done
    python -m benchmarks.record_evidence --budget 570            for a machine that gives ten minutes at a time

A stage that is interrupted, by the budget or by hand, is gone on with where it stopped: the suite has its journal, the
pairs are appended. ``--out`` takes the log of each stage, ``stages.json`` (exit code and seconds) and
``recorded.tar.gz``, which holds what was saved below results/, for a machine that does not keep its disk.

Exit codes: 0 every stage that was asked for is done, whatever its tests found; 1 one is not; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
WORKLOADS: Final = ("simple_cnn", "resnet18", "resnet50", "mobilenet_v3_small", "vit_b_16", "transformer")
THREE: Final = ("simple_cnn", "resnet18", "transformer")
BACKENDS: Final = ("torch_tensorrt", "inductor", "tensorrt_engine", "eager")  # the slowest to build first
PRECISIONS: Final = ("--precision=bf16", "--precision=tf32", "--batch=8")
QUANTISED: Final = ("--precision=int8", "--precision=fp8", "--batch=8")
_PAIRS_AT_ONCE: Final = 8  # as many as gate_evidence starts together
_GRACE_S: Final = 60.0  # pytest saves what it has when it is interrupted
_INTERRUPTED: Final = (-signal.SIGINT, -signal.SIGKILL, 2, 130)  # pytest's own code for an interruption is 2
_Command = list[str]


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

    def run(self, stage: str, commands: Sequence[_Command], at_once: int = 1) -> bool:
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

    def pytest(self) -> _Command:
        """The benchmarks with this recording's cache."""
        return [sys.executable, "-m", "pytest", "benchmarks", f"--cache-dir={self.cache}"]

    @property
    def state(self) -> Path:
        """Where it is noted what is done."""
        return self.cache / "evidence"


def _shares(at_once: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Environments of processes that run at once: each has its part of the cores, and the next GPU.

    Threads that wait for a core spin: ten processes with a thread each a core built nothing in three minutes.
    """
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    shared = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TORCHINDUCTOR_COMPILE_THREADS": threads}
    return [shared | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [shared]


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [f"{option}={value}" for value in values]


def builds(recording: Recording) -> bool:
    """Everything that the matrix needs to have built, proven, so that the matrix is measured from warm caches."""
    return recording.run("builds", _builds(recording, recording.workloads), recording.builders)


def more_builds(recording: Recording) -> bool:
    """The same for the stages ``precisions`` and ``quantised``."""
    return recording.run("more_builds", _builds(recording, recording.low, *PRECISIONS, *QUANTISED), recording.builders)


def _builds(recording: Recording, workloads: Sequence[str], *options: str) -> list[_Command]:
    told = ["-k", "test_build or test_parity or test_optimisation", *options]
    each = itertools.product(workloads[::-1], BACKENDS)
    return [[*recording.pytest(), *told, f"--workload={name}", f"--backend={backend}"] for name, backend in each]


def matrix(recording: Recording) -> bool:
    """The default matrix in one process."""
    return recording.suite("matrix", *_each("--workload", recording.workloads))


def precisions(recording: Recording) -> bool:
    """The other precisions in floating point, at one batch size."""
    return recording.suite("precisions", *PRECISIONS, *_each("--workload", recording.low))


def quantised(recording: Recording) -> bool:
    """int8 and fp8, at one batch size."""
    return recording.suite("quantised", *QUANTISED, *_each("--workload", recording.low))


def clock(recording: Recording) -> bool:
    """The proof of the clock."""
    command = [sys.executable, "-m", "benchmarks.proof_of_clock", "--cache", str(recording.cache)]
    return recording.run("clock", [[*command, "--json", str(recording.out / "proof_of_clock.json")]])


def layers(recording: Recording) -> bool:
    """What inspecting and bisecting a ResNet-18 print, and the inspector's own JSON of every workload."""
    trtgate = [sys.executable, "-m", "trtgate"]
    cache = ["--cache-dir", str(recording.cache)]
    inspect = ["inspect", "resnet18-tensorrt_engine-fp16-b8-stream", "--layers", "--profile", "50"]
    bisect = ["bisect", "resnet18-tensorrt_engine-fp8-b8-stream"]
    told = [[*trtgate, *inspect, *cache], [*trtgate, *bisect, *cache]]
    for name in recording.workloads:
        case = f"{name}-tensorrt_engine-fp16-{'b1s128' if name == 'transformer' else 'b1'}-stream"
        told.append([*trtgate, "inspect", case, "--raw", str(recording.out / f"{name}_fp16.json"), *cache])
    return recording.run("layers", told)


def regression(recording: Recording) -> bool:
    """A planted regression in one case."""
    return recording.run("regression", [_regression(recording, "regression")])


def eight(recording: Recording) -> bool:
    """The same in eight cases that share their processes: the gate's wall time a case."""
    return recording.run("eight", [[*_regression(recording, "eight"), "--eight"]])


def _regression(recording: Recording, name: str) -> _Command:
    command = [sys.executable, "-m", "benchmarks.show_regression", "--cache", str(recording.cache)]
    return [*command, "--out", str(recording.out / name)]


def pairs(recording: Recording) -> bool:
    """Pairs of processes, a few at a time, so that an interruption loses few."""
    samples = recording.out / "pairs.jsonl"
    while (have := _recorded(samples)) < recording.pairs:
        wanted = min(_PAIRS_AT_ONCE, recording.pairs - have)
        command = [sys.executable, "-m", "benchmarks.gate_evidence", "--samples", str(samples), "--append"]
        if not recording.run("pairs", [[*command, "--cache", str(recording.cache), "--pairs", str(wanted)]]):
            return False
        if _recorded(samples) == have:
            return False  # the log says why
    return True


def _recorded(samples: Path) -> int:
    """How many pairs the file holds; the last may be in the making."""
    if not samples.exists():
        return 0
    with samples.open(encoding="utf-8") as lines:
        return len({json.loads(line)["pair"] for line in lines if line.endswith("\n")})


def rules(recording: Recording) -> bool:
    """Error rates on the recorded pairs, ours and other tools'."""
    command = [sys.executable, "-m", "benchmarks.compare_rules", str(recording.out / "pairs.jsonl")]
    return recording.run("rules", [[*command, "--json", str(recording.out / "rules.json")]])


STAGES: Final[dict[str, Callable[[Recording], bool]]] = {
    stage.__name__: stage
    for stage in (builds, more_builds, matrix, precisions, quantised, clock, layers, regression, eight, pairs, rules)
}


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pack(recording: Recording, since: float) -> None:
    saved = [path for path in (ROOT / "results").rglob("*.json") if path.stat().st_mtime >= since]
    if saved:
        with tarfile.open(recording.out / "recorded.tar.gz", "w:gz") as archive:
            for path in saved:
                archive.add(path, path.relative_to(ROOT))


def main(arguments: Sequence[str] | None = None) -> int:
    """Record; the exit code."""
    parser = argparse.ArgumentParser(prog="record_evidence", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of: {', '.join(STAGES)}")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="then interrupt what runs and start no more")
    parser.add_argument("--out", type=Path, default=Path("evidence-report"), metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path(".trtgate"), metavar="DIR")
    parser.add_argument("--workload", action="append", default=[], help="of the matrix, instead of its default")
    parser.add_argument("--pairs", type=int, default=24, help="pairs of processes in all")
    parser.add_argument("--gpu", action="append", default=[], metavar="N", help="that builders take turns on")
    parser.add_argument("--builders", type=int, default=3, help="processes that build at once")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.stages) - set(STAGES)):
        parser.error(f"no stage is called {', '.join(unknown)}; there are: {', '.join(STAGES)}")
    # Behind nohup it would be ignored, here and in every process that is started, and an interruption would do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out, cache = options.out.absolute(), options.cache.absolute()
    recording = Recording(
        out,
        cache,
        workloads=options.workload or WORKLOADS,
        low=options.workload or THREE,
        pairs=options.pairs,
        builders=options.builders,
        gpus=options.gpu,
        until_s=None if options.budget is None else time.monotonic() + options.budget,
    )
    for folder in (out, recording.state):
        folder.mkdir(parents=True, exist_ok=True)
    first = recording.state / "began"
    if not first.exists():
        first.touch()
    return 0 if _record(recording, options.stages, first.stat().st_mtime) else 1


def _record(recording: Recording, asked: Sequence[str], since: float) -> bool:
    done = {name for name in STAGES if (recording.state / f"{name}.done").exists()}
    for name in [name for name in STAGES if name in (asked or STAGES.keys() - done)]:
        if recording.left_s() == 0.0:
            print(f"{name}: no time is left; run it again to go on.")
            return False
        began_s = time.monotonic()
        whole = STAGES[name](recording)
        _pack(recording, since)
        print(f"{name}: {'done' if whole else 'not done'} after {time.monotonic() - began_s:.0f} s", flush=True)
        if not whole:
            return False
        (recording.state / f"{name}.done").touch()
        (recording.state / f"{name}.started").unlink(missing_ok=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
