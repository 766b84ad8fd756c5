"""Our change points (ruptures) and Apache Otava's on the same simulated histories.

Otava pins numpy 2.2.0, so it needs an environment of its own; judging needs neither torch nor a GPU there:

    python -m venv otava && otava/bin/pip install apache-otava==0.8.0 ruptures pydantic scipy
    otava/bin/python -m benchmarks.compare_change_points

Prints the table of docs/adr/0005-change-points.md. Otava runs with its defaults: window 50, p < 0.001, any magnitude.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import signal

from trtgate.judge.trend import change_points
from trtgate.policy.judge import TrendSettings

_Array = npt.NDArray[np.float64]
_STEP, _AFTER, _HISTORIES = 1.05, 10, 200


def ours(history: _Array) -> Sequence[int]:
    """Indices that `trtgate trend` reports."""
    return [change.index for change in change_points(history, TrendSettings())]


def otava(history: _Array) -> Sequence[int]:
    """Indices that Otava reports."""
    from otava.analysis import compute_change_points

    found, _ = compute_change_points(list(history), window_len=50, max_pvalue=0.001, min_magnitude=0.0)
    return [change.index for change in found]


def history(rng: np.random.Generator, runs: int, phi: float, spikes: float) -> _Array:
    """AR(1) noise of 1% with exponential spikes of 30% on average."""
    white = rng.standard_normal(runs + 100)
    wander = signal.lfilter([1.0], [1.0, -phi], white)[100:] * np.sqrt(1 - phi**2)
    return np.exp(0.01 * wander + (rng.random(runs) < spikes) * rng.exponential(0.3, runs))


def row(name: str, find: Callable[[_Array], Sequence[int]], runs: int, phi: float, spikes: float) -> str:
    """One line of the table."""
    rng = np.random.default_rng(7)
    repeats = _HISTORIES if runs <= 100 else _HISTORIES // 4
    start = time.process_time()
    alarms = [bool(find(history(rng, runs, phi, spikes))) for _ in range(repeats)]
    cost_ms = (time.process_time() - start) / repeats * 1e3
    found = others = 0
    for _ in range(repeats):
        values = history(rng, runs, phi, spikes)
        values[runs - _AFTER :] *= _STEP
        hits = [abs(index - (runs - _AFTER)) <= 1 for index in find(values)]
        found += any(hits)
        others += len(hits) - sum(hits)
    return (
        f"| {name} | {runs} | {phi:g} | {spikes:.0%} | {np.mean(alarms):.3f} | {found / repeats:.3f} "
        f"| {others / repeats:.2f} | {cost_ms:.1f} |"
    )


def main() -> None:
    """Print the table."""
    print("| tool | runs | AR(1) phi | spikes | histories with a false alarm | +5% found | other points | ms |")
    print("|---|---|---|---|---|---|---|---|")
    for name, find in (("ruptures, ours", ours), ("Apache Otava 0.8.0", otava)):
        for runs in (100, 1000):
            for phi, spikes in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.03), (0.3, 0.03)):
                print(row(name, find, runs, phi, spikes), flush=True)


if __name__ == "__main__":
    main()
