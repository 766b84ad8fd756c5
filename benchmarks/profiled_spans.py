"""What torch.profiler (CUPTI) saw of device-time samples: when the kernels of each timed inference began and ended."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from trtgate.errors import MeasurementError
from trtgate.measure.timing import Sampler

_SPACER_KERNEL: Final = "spin_kernel"
_WORK: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})


@dataclass(frozen=True, slots=True)
class Span:
    """One timed inference as the device saw it.

    Attributes:
        seconds: from the first kernel's start to the last one's end.
        kernels: how many.
        pause_s: from the end of the untimed inference before it to its first kernel's start.
    """

    seconds: float
    kernels: int
    pause_s: float


def profiled(sampler: Sampler, samples: int) -> tuple[tuple[float, ...], dict[str, Any]]:
    """A block of samples in seconds, and the Chrome trace of what the device did meanwhile."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        device_s = sampler.sample_block(samples)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return device_s, json.loads(path.read_text(encoding="utf-8"))


def spans_of(trace: dict[str, Any]) -> list[Span]:
    """The span of every timed inference in a Chrome trace of device-time samples.

    A sample is a spacer, an untimed inference, and a timed one of the same kernels: the timed one is the second half.

    Raises:
        MeasurementError: what follows a spacer is not two inferences of the same kernels.
    """
    work = sorted(
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]), str(event["name"]))
        for event in trace["traceEvents"]
        if event.get("ph") == "X" and event.get("cat") in _WORK
    )
    samples: list[list[tuple[float, float, str]]] = []
    for start_us, end_us, name in work:
        if _SPACER_KERNEL in name:
            samples.append([])
        elif samples:
            samples[-1].append((start_us, end_us, name))
    spans = []
    for kernels in samples:
        half = len(kernels) // 2
        untimed, timed = kernels[:half], kernels[half:]
        if not timed or Counter(name for *_, name in untimed) != Counter(name for *_, name in timed):
            raise MeasurementError(
                f"A spacer is followed by {len(kernels)} kernels that are not the same inference twice.",
                "Measure a case whose inferences all launch the same kernels.",
            )
        first_us, before_us = timed[0][0], max(end for _, end, _ in untimed)
        last_us = max(end for _, end, _ in timed)
        spans.append(Span((last_us - first_us) * 1e-6, half, (first_us - before_us) * 1e-6))
    return spans
