"""Memory: whose bytes are compared, and when a difference says nothing of the case."""

from pathlib import Path

import pytest

from trtgate.case import Quantity
from trtgate.judge.baseline import compare_runs
from trtgate.judge.memory import Memory, judge_memory
from trtgate.judge.verdict import Verdict
from trtgate.policy import JudgeSettings
from trtgate.record import Environment, Series
from trtgate.store.history import load_run

SETTINGS = JudgeSettings()
MIB = 2**20
CASE = "resnet50-tensorrt_engine-fp16-b1-graph"
RESULTS = Path(__file__).parents[2] / "results"
OWN = {"device_process": 80.0 * MIB, "device": 80.0 * MIB}


def judged(base, head):
    return judge_memory(base, head, SETTINGS, SETTINGS.margin.memory)


@pytest.fixture
def row(make_record):
    """A row as the suite stores it."""

    def make(size, where="device", *, watched=True, neighbours=(), **facts):
        facts = {"where": where, "total_bytes": size, "watched": watched, "from_cache": True} | facts
        environment = Environment(neighbours=neighbours)
        series = Series.of([size])
        return make_record(CASE, "memory", series=series, facts=facts, environment=environment)

    return make


@pytest.fixture
def decide(make_record):
    shared = make_record(case="simple_cnn-eager-fp32-b1-graph")

    def decide(base, head):
        found = compare_runs([shared, base], [shared, head], SETTINGS)
        return next(one.decision for one in found if one.quantity is Quantity.MEMORY)

    return decide


@pytest.mark.parametrize("where", ["device", "device_process", "process"])
@pytest.mark.parametrize(
    ("after", "verdict"), [(81, Verdict.SAME), (90, Verdict.SLOWER), (400, Verdict.SLOWER), (70, Verdict.FASTER)]
)
def test_memory_that_nobody_disturbed_is_judged(row, decide, where, after, verdict):
    assert decide(row(80 * MIB, where), row(after * MIB, where)).verdict is verdict


@pytest.mark.parametrize("after", [80, 400, 1])
@pytest.mark.parametrize(
    ("base", "head", "who"),
    [
        ((4711,), (), "beside the base (4711)"),
        ((), (4711, 4712), "beside the head (4711, 4712)"),
        ((4711,), (4712,), "beside the base (4711) and beside the head (4712)"),
    ],
)
def test_the_whole_gpu_s_memory_says_nothing_where_others_were_on_it(row, decide, after, base, head, who):
    decision = decide(row(80 * MIB, neighbours=base), row(after * MIB, neighbours=head))
    assert (decision.verdict, decision.code) == (Verdict.INCOMPARABLE, "neighbours")
    assert who in decision.reason


def test_the_process_s_own_memory_is_judged_whoever_was_beside_it(row, decide):
    base = row(80 * MIB, "device_process", neighbours=(4711,))
    assert decide(base, row(80 * MIB, "device_process")).verdict is Verdict.SAME
    assert decide(base, row(160 * MIB, "device_process", neighbours=(4712,))).verdict is Verdict.SLOWER


@pytest.mark.parametrize(("before", "after"), [(0.3, 78), (400, 80), (80, 400)])
def test_a_difference_that_others_may_have_made_is_none_of_the_case_where_nobody_looked(row, decide, before, after):
    decision = decide(row(int(before * MIB), watched=False), row(after * MIB))
    assert (decision.verdict, decision.code) == (Verdict.INCOMPARABLE, "unwatched")
    assert "nobody looked for other processes on it beside the base: the difference may be theirs." in decision.reason
    both = decide(row(int(before * MIB), watched=False), row(after * MIB, watched=False))
    assert "beside the base and the head" in both.reason


def test_figures_that_agree_are_believed_also_where_nobody_looked(row, decide):
    assert decide(row(80 * MIB, watched=False), row(80 * MIB, watched=False)).verdict is Verdict.SAME


def test_an_old_row_is_compared_with_what_a_new_one_saw_of_the_whole_gpu(row, decide):
    old = row(84 * MIB, watched=False)
    new = {"where": "device_process", "device_bytes": 84 * MIB}
    assert decide(old, row(80 * MIB, **new)).verdict is Verdict.SAME
    assert decide(row(80 * MIB, watched=False), row(80 * MIB, **new)).code == "unwatched"
    # Nobody looked beside the old one: it is believed where it agrees, whoever was there beside the new one.
    assert decide(old, row(80 * MIB, neighbours=(4711,), **new)).verdict is Verdict.SAME
    assert decide(row(80 * MIB, watched=False), row(80 * MIB, neighbours=(4711,), **new)).code == "unwatched"


def test_rows_of_before_anything_was_told_are_of_the_whole_gpu(make_record, decide):
    def old(size):
        return make_record(CASE, "memory", series=Series.of([size]))

    assert decide(old(80 * MIB), old(80 * MIB)).verdict is Verdict.SAME
    assert decide(old(80 * MIB), old(90 * MIB)).code == "unwatched"


def test_memory_of_the_cpu_is_not_held_against_a_gpu_s(row, decide):
    decision = decide(row(80 * MIB, "process"), row(80 * MIB, "device_process"))
    assert (decision.verdict, decision.code) == (Verdict.INCOMPARABLE, "other_measure")
    assert decision.reason == "The sides measured different memory: process and device_process."


@pytest.mark.parametrize("series", [[], [1.0, 2.0]])
def test_a_row_that_does_not_hold_one_figure_is_invalid(row, make_record, decide, series):
    broken = make_record(CASE, "memory", series=Series.of(series), facts=row(MIB).facts)
    assert (decide(row(MIB), broken).verdict, decide(broken, row(MIB)).verdict) == (Verdict.INVALID, Verdict.INVALID)


def test_facts_that_are_no_figures_are_not_taken_for_some(row, decide):
    odd = row(80 * MIB, "device_process", device_bytes="many", total_bytes="some")
    assert decide(odd, row(80 * MIB, "device_process")).verdict is Verdict.SAME
    none = row(80 * MIB, "device_process", device_bytes=float("nan"))
    assert decide(none, row(400 * MIB)).code == "other_measure"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (20 * MIB, 22 * MIB, Verdict.SAME),  # one step of the device, seen between two runs of one engine
        (22 * MIB, 20 * MIB, Verdict.SAME),
        (510_668_800, 510_668_800 + 2 * MIB, Verdict.SAME),
        (20_971_520 + 512, 20_971_520 + 512 + 2 * MIB, Verdict.SAME),
        (20 * MIB, 24 * MIB, Verdict.SLOWER),
        (24 * MIB, 20 * MIB, Verdict.FASTER),
    ],
)
def test_a_step_of_the_device_more_or_less_is_no_change(row, decide, before, after, verdict):
    decision = decide(row(before), row(after))
    assert decision.verdict is verdict
    if (before, after) == (20 * MIB, 22 * MIB):
        assert decision.reason == (
            "Same: +10.0% (20,971,520 bytes -> 23,068,672 bytes; 2,097,152 bytes more or less is no change), margin 2%."
        )


def test_two_recordings_of_one_matrix_do_not_differ_in_memory_because_others_built_beside_the_first():
    first, third = (next(RESULTS.glob(f"nvidia-h100*/Linux*/{number}_*.json")) for number in ("0001", "0003"))
    found = compare_runs(load_run(first).records, load_run(third).records, SETTINGS)
    memory = {one.case: one.decision for one in found if one.quantity is Quantity.MEMORY}
    verdicts = [decision.verdict for decision in memory.values()]
    assert len(verdicts) == 96
    assert (verdicts.count(Verdict.SAME), verdicts.count(Verdict.INCOMPARABLE)) == (84, 12)
    assert memory["mobilenet_v3_small-tensorrt_engine-fp16-b8-graph"].verdict is Verdict.SAME  # one step
    assert "(303,104 bytes -> 81,788,928 bytes" in memory[CASE].reason


def build(size, where="device_process", neighbours=(), **more):
    footprint = {"where": where, "total_bytes": size, "device_bytes": size, "watched": True} | more
    return {"footprint_bytes": size, "footprint": footprint, "neighbours": list(neighbours)}


def test_the_builds_of_a_side_speak_with_their_median():
    side = Memory.of_builds([build(80 * MIB), build(80 * MIB), build(200 * MIB)])
    assert side == Memory(OWN, (), watched=True)
    assert Memory.of_builds([{"footprint_bytes": None}]) is None


def test_builds_that_others_disturbed_do_not_count_where_some_were_not():
    alone, beside = build(80 * MIB, "device"), build(480 * MIB, "device", neighbours=(4711,))
    assert judged(Memory.of_builds([alone]), Memory.of_builds([beside, beside, alone])).verdict is Verdict.SAME
    assert judged(Memory.of_builds([alone]), Memory.of_builds([beside])).code == "neighbours"


@pytest.mark.parametrize(("where", "code"), [("device_process", "unwatched"), ("process", "beyond_margin")])
def test_an_older_side_is_compared_by_what_it_measures(where, code):
    old = Memory.of_builds([{"footprint_bytes": 80 * MIB}])
    more = {"device_bytes": None} if where == "process" else {}
    assert judged(old, Memory.of_builds([build(80 * MIB, where, **more)])).verdict is Verdict.SAME
    assert judged(old, Memory.of_builds([build(160 * MIB, where, **more)])).code == code
