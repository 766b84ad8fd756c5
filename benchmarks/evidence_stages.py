"""The stages of a recording of evidence on a GPU, each of which says whether it is done (see record_evidence)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.recording import Command, Recording
from trtgate.workloads import registry

THREE: Final = ("simple_cnn", "resnet18", "transformer")
REST: Final = tuple(name for name in registry.names() if name not in registry.ON_GPU)
PRECISIONS: Final = ("--precision=bf16", "--precision=tf32", "--batch=8")
QUANTISED: Final = ("--precision=int8", "--precision=fp8", "--batch=8")
_PAIRS_AT_ONCE: Final = 8  # as many as gate_evidence starts together


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [f"{option}={value}" for value in values]


def matrix(recording: Recording) -> bool:
    """The default matrix, measured in one process, and the micro models where no workload was named."""
    return recording.suite("matrix", *_each("--workload", recording.workloads))


def rest(recording: Recording) -> bool:
    """The workloads that the default matrix leaves out, in fp16."""
    return recording.suite("rest", "--precision=fp16", *_each("--workload", REST))


def bf16(recording: Recording) -> bool:
    """The raw engine of every workload in bf16, at one batch size."""
    told = ("--precision=bf16", "--batch=8", "--backend=tensorrt_engine")
    return recording.suite("bf16", *told, *_each("--workload", registry.names()))


def cold_l2(recording: Recording) -> bool:
    """One cell with its L2 cache flushed before each timed inference."""
    return recording.suite("cold_l2", "--l2=cold", "--workload=resnet18", "--precision=fp16", "--batch=8")


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
    """What `trtgate inspect` and `trtgate bisect` print, and the inspector's own JSON of every workload."""
    eight = "resnet18-tensorrt_engine-{}-b8-stream"
    told = [
        ["inspect", eight.format("fp16"), "--layers", "--profile", "50"],
        ["inspect", eight.format("fp16"), "--against", eight.format("bf16"), "--profile", "50"],
        ["bisect", eight.format("fp8")],
        ["bisect", "efficientnet_b0-tensorrt_engine-fp16-b1-stream"],
        ["bisect", "overflow-tensorrt_engine-fp16-b1-stream"],
    ]
    for name in recording.workloads or registry.ON_GPU:
        case = f"{name}-tensorrt_engine-fp16-{'b1s128' if name == 'transformer' else 'b1'}-stream"
        told.append(["inspect", case, "--raw", str(recording.out / f"{name}_fp16.json")])
    trtgate = [sys.executable, "-m", "trtgate"]
    return recording.run("layers", [[*trtgate, *one, "--cache-dir", str(recording.cache)] for one in told])


def regression(recording: Recording) -> bool:
    """A planted regression in one case."""
    return recording.run("regression", [_regression(recording, "regression")])


def eight(recording: Recording) -> bool:
    """The same in eight cases that share their processes: the gate's wall time a case."""
    return recording.run("eight", [[*_regression(recording, "eight"), "--eight"]])


def sound(recording: Recording) -> bool:
    """Identical code in the same eight cases, everything judged: the gate must pass."""
    return recording.run("sound", [[*_regression(recording, "sound"), "--eight", "--sound"]])


def _regression(recording: Recording, name: str) -> Command:
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
    for stage in (
        *(matrix, rest, precisions, bf16, quantised, cold_l2),
        *(clock, layers, regression, eight, sound, pairs, rules),
    )
}
