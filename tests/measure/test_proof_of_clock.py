"""The parts of benchmarks/proof_of_clock.py that need no GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import proof_of_clock
from benchmarks.clock_agreement import Agreement
from benchmarks.profiled_spans import Span, spans_of
from benchmarks.runner_cost import HostCost
from trtgate.errors import MeasurementError

SPACER = "at::cuda::(anonymous namespace)::spin_kernel(long)"


def event(name, ts, dur, cat="kernel"):
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 0, "tid": 7}


def sample(at, *, gap=2.0):
    """A spacer and twice two overlapping kernels and a memset, 100 us an inference."""
    events = [event(SPACER, at, 1000.0)]
    for start in (at + 1000 + gap, at + 1100 + 2 * gap):
        events += [event("gemm", start, 60), event("aux", start + 20, 80), event("Memset", start + 95, 2, "gpu_memset")]
    return events


def _agreement(span_s, error, added_s=0.0, unprofiled_s=None):
    return Agreement(
        case="case",
        device_s=span_s * (1 + error),
        span_s=span_s,
        error=error,
        kernels=10,
        unprofiled_s=span_s if unprofiled_s is None else unprofiled_s,
        pause_s=4e-6 + added_s,
        added_s=added_s,
        unexplained_s=0.0,
        empty_pair_s=3e-6,
        shortest_pause_s=4e-6,
    )


def test_the_span_is_of_the_second_inference_behind_each_spacer():
    noise = [
        event("cudaLaunchKernel", 1.0, 5.0, "cuda_runtime"),
        {"ph": "i", "name": "Record Window End", "ts": 9e9},
        event("left over from before", -50, 10),
    ]
    trace = {"traceEvents": [*sample(5000), *noise, *sample(0)]}
    assert spans_of(trace) == [Span(pytest.approx(100e-6), 3, pytest.approx(2e-6))] * 2


@pytest.mark.parametrize("drop", [1, 4])
def test_kernels_that_are_not_the_same_inference_twice_are_refused(drop):
    events = sample(0)
    del events[drop]
    with pytest.raises(MeasurementError, match="5 kernels that are not the same inference twice"):
        spans_of({"traceEvents": events})


def test_a_spacer_without_work_is_refused():
    with pytest.raises(MeasurementError, match="followed by 0 kernels"):
        spans_of({"traceEvents": sample(0)[:1]})


@pytest.mark.parametrize(
    ("high", "allocations", "growth", "holds"),
    [(1.09, 0, 0, True), (1.11, 0, 0, False), (1.05, 1, 0, False), (1.05, 0, 2**21, False)],
)
def test_the_first_claim_needs_the_intervals_upper_bound_and_no_allocation(high, allocations, growth, holds):
    cost = HostCost("case", 11e-6, 10e-6, 1.04, 1.0, high, allocations, growth)
    assert cost.holds is holds


@pytest.mark.parametrize(
    ("span_s", "error", "holds"), [(0.3e-3, 0.019, True), (0.3e-3, -0.021, False), (0.1e-3, 0.3, True)]
)
def test_the_second_claim_is_about_cases_that_are_long_enough(span_s, error, holds):
    found = _agreement(span_s=span_s, error=error)
    assert found.holds is holds
    assert found.holds_as_profiled is holds


def test_what_the_profiler_adds_before_a_graph_is_not_the_clocks_and_is_told():
    found = _agreement(span_s=0.2e-3, error=0.028, added_s=5e-6)
    assert found.clock_error == pytest.approx(0.003)
    assert found.holds
    assert not found.holds_as_profiled


def test_what_a_graph_also_takes_without_a_profiler_is_not_the_profilers():
    found = _agreement(span_s=0.2e-3, error=0.5, added_s=100e-6, unprofiled_s=0.3e-3)
    assert found.clock_error == pytest.approx(0)
    assert not found.holds


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_4(capsys):
    assert proof_of_clock.main([]) == 4
    assert "The proof needs a GPU" in capsys.readouterr().err
