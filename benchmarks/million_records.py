"""How long do a summary and a trend over all cases of a million records take?

Makes 1,000 cases x 1,000 commits with known steps and spikes, stores them as Parquet, and times `trtgate trend` as a
user runs it. Run by hand::

    python benchmarks/million_records.py [--folder FOLDER] [--cases 1000] [--commits 1000]

Its output is kept in ``results/evidence-cpu/million_records.txt``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trtgate.backends.host_cpu import cpu_model
from trtgate.store.layout import LAYOUT
from trtgate.store.parquet import table_of
from trtgate.store.points import COLUMNS

_STACK = "nvidia-h100-80gb-hbm3_driver580.159.04_cuda13.0_rtx1.4.0.76_torch2.11.0+cu130"
_HOST = "CPU AMD EPYC 9554 64-Core Processor, threads 16, ONNX Runtime 1.32.0"
_EPOCH = np.datetime64("2024-01-01T00:00:00", "us")
_STEP, _NOISE, _STEPPED_SHARE, _SPIKED_SHARE = 0.05, 0.005, 0.1, 0.01
_LIMIT_BYTES = 2 * 2**30


def make(folder: Path, cases: int, commits: int, record_bytes: int, seed: int = 0) -> set[tuple[str, int]]:
    """Write one file a hundred commits, as a nightly ingest would leave them.

    Args:
        folder: of the store.
        cases: histories.
        commits: points of each.
        record_bytes: length of each record's own text, incompressible as packed samples are.
        seed: of the noise.

    Returns:
        The steps that were put in: case and index of the first run after it.
    """
    random = np.random.default_rng(seed)
    names = np.array([f"model{number:04d}-tensorrt_engine-fp16-b8-graph" for number in range(cases)], dtype=object)
    hashes = np.array([random.bytes(20).hex() for _ in range(commits)], dtype=object)
    logs = np.log(random.uniform(1e-4, 1e-2, cases))[:, None] + random.normal(0, _NOISE, (cases, commits))
    logs += np.where(random.random((cases, commits)) < _SPIKED_SHARE, 0.3, 0.0)
    stepped = random.permutation(cases)[: int(cases * _STEPPED_SHARE)]
    places = random.integers(commits // 5, commits - commits // 5, len(stepped))
    for case, place in zip(stepped, places, strict=True):
        logs[case, place:] += np.log1p(_STEP)
    medians = np.exp(logs)
    target = folder / f"layout={LAYOUT}" / f"stack={_STACK}"
    target.mkdir(parents=True)
    schema = table_of([]).schema
    for start in range(0, commits, 100):
        block = range(start, min(start + 100, commits))
        rows = len(block) * cases
        median = medians[:, block.start : block.stop].T.ravel()
        commit_of_row = np.repeat(hashes[block.start : block.stop], cases)
        times = np.repeat(_EPOCH + np.arange(block.start, block.stop) * np.timedelta64(1, "h"), cases)
        packed = base64.b64encode(random.bytes(rows * record_bytes * 3 // 4)).decode()
        columns = {
            "case_id": np.tile(names, len(block)),
            "quantity": np.full(rows, "latency", dtype=object),
            "host": np.full(rows, _HOST, dtype=object),
            "outcome": np.full(rows, "measured", dtype=object),
            "status": np.full(rows, "passed", dtype=object),
            "commit_id": commit_of_row,
            "recorded_at": times,
            "run_digest": commit_of_row,
            "run_name": commit_of_row,
            "samples": np.full(rows, 200, dtype=np.int32),
            "median": median,
            "q1": median * 0.997,
            "q3": median * 1.003,
            "record": [packed[at * record_bytes : (at + 1) * record_bytes] for at in range(rows)],
        }
        wanted = [name for name in COLUMNS if name != "stack"]
        table = pa.table([pa.array(columns[name], schema.field(name).type) for name in wanted], names=wanted)
        pq.write_table(table, target / f"{start:08d}.parquet", compression="zstd")
    return {(str(names[case]), int(place)) for case, place in zip(stepped, places, strict=True)}


def timed(*arguments: str) -> tuple[float, float, int, str]:
    """Run ``trtgate`` in a process of its own.

    Returns:
        Wall and processor seconds, the interpreter's start included, peak resident bytes, and what it printed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-m", "trtgate", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"trtgate {' '.join(arguments)} ended with {process.returncode}")
    wall_s = time.perf_counter() - start
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text


def main() -> int:
    """Make the records, time both questions, check the answers; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="where to put the store (default: a temporary folder)")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--record-bytes", type=int, default=400, help="text of each record beside its columns")
    parser.add_argument("--limit-s", type=float, default=10.0, help="wall time that both questions may take together")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        store = Path(name) / "store"
        planted = make(store, args.cases, args.commits, args.record_bytes)
        size = sum(path.stat().st_size for path in store.rglob("*.parquet"))
        print(*_machine(), sep="\n")
        print(f"{args.cases * args.commits:,} records, {size / 2**20:,.0f} MiB of Parquet")
        summary_s, summary_cpu_s, summary_bytes, text = timed("trend", "--store", str(store), "--summary")
        print(text)
        trend_s, trend_cpu_s, trend_bytes, text = timed("trend", "--store", str(store), "--json", "-")
    found = json.loads(text)["change_points"]
    near = {(step["case"], index) for step in found for index in range(step["index"] - 3, step["index"] + 4)}
    hits = len(planted & near)
    total_s, peak = summary_s + trend_s, max(summary_bytes, trend_bytes)
    print(f"summary {summary_s:.1f} s, trend over all cases {trend_s:.1f} s, together {total_s:.1f} s")
    print(f"processor time {summary_cpu_s:.1f} s and {trend_cpu_s:.1f} s; more wall time than that is other work here")
    print(f"peak resident memory {peak / 2**20:,.0f} MiB (this script: {_own_peak() / 2**20:,.0f} MiB, not counted)")
    print(f"{hits} of {len(planted)} planted steps found within 3 runs, {len(found) - hits} other change points")
    broken = total_s > args.limit_s or peak > _LIMIT_BYTES or hits < len(planted)
    limits = f"{args.limit_s:g} s together, {_LIMIT_BYTES / 2**20:,.0f} MiB, every planted step"
    print(f"limits ({limits}): {'broken' if broken else 'kept'}")
    return int(broken)


def _machine() -> list[str]:
    """Where and when this is, for whoever reads the output elsewhere."""
    installed = [f"{name} {metadata.version(name)}" for name in ("numpy", "pyarrow", "duckdb", "ruptures")]
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} in the minute before",
        f"{platform.system()}, Python {platform.python_version()}, {', '.join(installed)}",
    ]


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main())
