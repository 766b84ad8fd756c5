"""Records on this machine what README.md, results/ and docs/statistics.md say of a GPU, stage by stage.

    python -m benchmarks.record_evidence                         every stage that is not done yet
    python -m benchmarks.record_evidence matrix clock            these, also if they are done
    python -m benchmarks.record_evidence --budget 570            for a machine that gives ten minutes at a time
    python -m benchmarks.record_evidence matrix --builders 10    with so many processes that build, from cold caches

A stage that is interrupted, by the budget or by hand, is gone on with where it stopped: the suite has its journal, the
pairs are appended. ``--out`` takes the log of each stage, ``stages.json`` (exit code and seconds) and
``recorded.tar.gz``, which holds what was saved below results/, for a machine that does not keep its disk.

Exit codes: 0 every stage that was asked for is done, whatever its tests found; 1 one is not; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence_stages import STAGES, THREE
from benchmarks.recording import ROOT, Recording


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
    parser.add_argument("--builders", type=int, default=3, help="processes that build ahead of what is measured")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.stages) - set(STAGES)):
        parser.error(f"no stage is called {', '.join(unknown)}; there are: {', '.join(STAGES)}")
    # Behind nohup it would be ignored, here and in every process that is started, and an interruption would do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out, cache = options.out.absolute(), options.cache.absolute()
    recording = Recording(
        out,
        cache,
        workloads=options.workload,
        low=options.workload or THREE,
        pairs=options.pairs,
        builders=options.builders,
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
