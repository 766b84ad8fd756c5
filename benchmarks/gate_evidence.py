"""Records pairs of processes on this machine: what the gate's error rates are computed from.

Every pair is two fresh processes of one and the same code that take turns. A/A compares them as they are; the power
arms compare the first with a runner of the second whose inferences a real busy kernel lengthens, on the same stream and
inside the same CUDA graph. How much longer is calibrated by measuring, and what was reached is read from the recording.

    python -m benchmarks.gate_evidence --samples samples.jsonl --pairs 24
    python -m benchmarks.gate_evidence --samples samples.jsonl --pairs 8 --append

The processes of several pairs start and build together and then wait for their turn, blocked on a read; while one pair
is measured nothing starts, builds or computes. Every pair has engine builds of its own, as in a gate. With fewer
``--builds`` the pairs rotate through them, and no two pairs meet in the same two until all have met: that saves time,
and the recording then holds the luck of so many builds and no more. Every build is proven against the reference before
it is timed; what is no build (eager PyTorch) is proven once.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from math import expm1
from pathlib import Path

from benchmarks.busy_units import Probing, busy_build, raise_first, require_success, units_for, write_json
from trtgate import policy as policies
from trtgate.case import Case, Execution, Quantity
from trtgate.errors import MeasurementError, TrtgateError, UsageError
from trtgate.gate.crew import Contest, Crew, Seat, for_each_member
from trtgate.gate.gpu_lock import whole_gpu
from trtgate.gate.member import Build, Member
from trtgate.gate.plan import builds_differ
from trtgate.gate.samples import SampleFile, mend
from trtgate.gate.sides import Side, own_root
from trtgate.gate.station import Station
from trtgate.judge.pairs import ProcessPair, log_ratio, read_pairs
from trtgate.measure.device import gpu_uuid
from trtgate.policy import Policy

GRAPHED = (
    "simple_cnn-eager-fp16-b1-graph",
    "simple_cnn-tensorrt_engine-fp16-b1-graph",
    "mobilenet_v3_small-tensorrt_engine-fp16-b1-graph",
    "resnet18-eager-fp16-b8-graph",
    "resnet18-tensorrt_engine-fp16-b8-graph",
    "resnet50-tensorrt_engine-fp16-b8-graph",
    "vit_b_16-eager-fp16-b8-graph",
    "vit_b_16-tensorrt_engine-fp16-b8-graph",
)
UNGRAPHED = ("resnet18-eager-fp16-b8-stream", "mobilenet_v3_small-eager-fp16-b1-stream")
ARMS = {"+3%": 0.03, "+2%": 0.02, "+5%": 0.05}
USUAL_ARMS = ("+3%", "+2%")
AA = "aa"
_BEGAN_S = time.monotonic()


def main(argv: Sequence[str] | None = None) -> int:
    """Record, then say what was recorded."""
    args = _arguments(argv)
    try:
        with whole_gpu(gpu_uuid() if args.device == "cuda" else None, _say):
            record(args)
    except TrtgateError as error:
        print(f"gate_evidence: {error}", file=sys.stderr)
        return 1
    return 0


def record(args: argparse.Namespace) -> None:
    """Calibrate where that was not done yet, and record the pairs that were asked for.

    Raises:
        UsageError: the file exists and nobody said to append.
        MeasurementError: a case could not be measured; the pairs that were finished stay.
    """
    first = _next_pair(args.samples, append=args.append)
    samples = SampleFile(args.samples)
    policy = policies.load(policies.find(own_root()))
    station = _station(args, policy)
    rng = random.Random(args.seed + first)  # noqa: S311 - an order of turns, no secret
    units = units_for(args.case or GRAPHED, _calibration_path(args.samples), _probing(args, station, rng))
    contests = contests_of(args, units)
    done = 0
    proven: set[tuple[str, int]] = set()
    while done < args.pairs:
        crews = [_crew(first + done + offset, args, station) for offset in range(min(args.crews, args.pairs - done))]
        try:
            for_each_member(crews, functools.partial(_prepare, contests, frozenset(proven), first))
            proven |= {(member.role, member.generation) for crew in crews for member in crew.members.values()}
            for crew in crews:
                for contest in contests:
                    _say(f"pair {crew.pair}: {contest.quantity} of {contest.case}")
                    # Ungraphed work waits behind a spacer of milliseconds, and its samples settle nothing anyway.
                    rounds = args.rounds if contest.arms.keys() > {AA} else max(5, args.rounds // 2)
                    taken = crew.take(contest, args.groups, rounds, policy.measure.max_discarded_blocks, rng)
                    require_success(taken)
                    samples.append(taken)
        finally:
            for_each_member(crews, Member.close)
        done += len(crews)
    report(args, units)


def report(args: argparse.Namespace, units: dict[str, dict[str, int]]) -> None:
    """Keep and print what the busy kernels really did: lengthened against clean runner of the same process."""
    recorded: dict[tuple[str, int], dict[str, ProcessPair]] = defaultdict(dict)
    lengthened = _lengthened(args)
    for pair in read_pairs(args.samples):
        # Identical code is also compared in latency, which tells nothing of what was added to device time.
        if pair.case in units and pair.quantity == lengthened:
            recorded[pair.case, pair.pair][pair.arm] = pair
    reached: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (case, _), by_arm in recorded.items():
        for arm in by_arm.keys() & ARMS.keys():
            reached[case][arm].append(log_ratio(by_arm[AA].head, by_arm[arm].head))
    told = {
        case: {arm: {"measured": expm1(statistics.mean(ratios)), "pairs": len(ratios)} for arm, ratios in arms.items()}
        for case, arms in reached.items()
    }
    path = _calibration_path(args.samples)
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"reached": told})
    for case, arms in told.items():
        off = [arm for arm, found in arms.items() if abs(found["measured"] - ARMS[arm]) > args.off * ARMS[arm]]
        print(case, *(f"{arm}: {found['measured'] * 100:+.2f}%" for arm, found in arms.items()), sep="  ")
        if off:
            print(f"  off by more than {args.off:.0%} of what it is called: {', '.join(off)}")


def contests_of(args: argparse.Namespace, units: dict[str, dict[str, int]]) -> list[Contest]:
    """Everything that a pair measures: the power arms, and identical code without one."""
    return [*_power_contests(args, units), *_aa_contests(args)]


def _power_contests(args: argparse.Namespace, units: dict[str, dict[str, int]]) -> list[Contest]:
    """Base against the other process as it is, and against its lengthened runners."""
    quantity = _lengthened(args)
    contests = []
    for case in args.case or GRAPHED:
        seats = [Seat("base", "base", busy_build(case, 0)), Seat(AA, "head", busy_build(case, 0))]
        seats += [Seat(arm, "head", busy_build(case, count)) for arm, count in units[case].items()]
        contests.append(Contest(case, quantity.value, tuple(seats), {s.label: ("base", s.label) for s in seats[1:]}))
    return contests


def _lengthened(args: argparse.Namespace) -> Quantity:
    """The quantity that the busy kernels lengthen."""
    return Quantity.DEVICE if args.device == "cuda" else Quantity.LATENCY


def _aa_contests(args: argparse.Namespace) -> list[Contest]:
    """Rows that nobody should judge tightly: ungraphed device time, and latency of graphed and ungraphed cases."""
    if args.case:
        return []
    wanted = [(case, Quantity.DEVICE) for case in UNGRAPHED]
    wanted += [(case, Quantity.LATENCY) for case in (*UNGRAPHED, GRAPHED[4])]
    return [
        Contest(
            case,
            quantity.value,
            (Seat("base", "base", Build(case, case)), Seat(AA, "head", Build(case, case))),
            {AA: ("base", AA)},
        )
        for case, quantity in wanted
    ]


def _prepare(contests: Sequence[Contest], proven: frozenset[tuple[str, int]], first: int, member: Member) -> None:
    member.open()
    if (member.role, member.generation) not in proven:
        for case in dict.fromkeys(contest.case for contest in contests):
            if member.pair == first or builds_differ(case):
                _prove(case, member)
    member.build(Crew.builds(contests, member.role))
    raise_first(member.failures)


def _prove(case: str, member: Member) -> None:
    """Parity before time, on a runner of its own: other inputs would have to be captured into lengthened ones."""
    plain = Build(f"proof of {case}", case)
    member.build([plain])
    found = member.parity(plain.name)
    raise_first(member.failures)
    if found is None or not found["passed"]:
        raise MeasurementError(
            f"{case} computes something else in build {member.generation} of the {member.role}: "
            f"{found['message'] if found else 'nothing was compared'}",
            "Name other cases with --case.",
        )
    member.drop([plain.name])


def _crew(pair: int, args: argparse.Namespace, station: Station) -> Crew:
    crew = Crew(pair, pair % args.builds, dict.fromkeys(("base", "head"), _side()), station)
    crew.members["head"].generation = (pair + pair // args.builds) % args.builds
    return crew


def _station(args: argparse.Namespace, policy: Policy) -> Station:
    return Station.of(
        policy,
        args.device,
        args.cache / "evidence",
        shared=args.cache,
        logs=args.cache / "evidence_logs",
        crews=args.crews,
    )


def _probing(args: argparse.Namespace, station: Station, rng: random.Random) -> Probing:
    arms = {arm: ARMS[arm] for arm in args.arm or USUAL_ARMS}
    return Probing(station, _side(), args.crews, args.groups, args.rounds, arms, args.off, rng, _say)


def _side() -> Side:
    return Side("recorded", "this tree", Path(sys.executable), own_root())


def _calibration_path(samples: Path) -> Path:
    return samples.with_suffix(".calibration.json")


def _next_pair(samples: Path, *, append: bool) -> int:
    if not samples.exists():
        return 0
    if not append:
        raise UsageError(f"{samples} exists.", "Say --append to add pairs to it, or name another file.")
    if gone := mend(samples):
        _say(f"{samples} ended in the middle of a contest: {gone} lines are taken away")
    if samples.stat().st_size == 0:  # a recording that was stopped before its first pair leaves an empty file
        return 0
    return max(pair.pair for pair in read_pairs(samples)) + 1


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN_S:4.0f} s] {text}", file=sys.stderr, flush=True)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--samples", type=Path, required=True, help="JSON lines; the calibration lies beside it")
    parser.add_argument("--pairs", type=int, default=24, help="pairs of processes to record now")
    parser.add_argument("--append", action="store_true", help="add to an existing file")
    parser.add_argument("--case", action="append", default=[], help="only these cases, each with its power arms")
    arms = f"a slowdown to inject, instead of {' and '.join(USUAL_ARMS)}; repeatable"
    parser.add_argument("--arm", action="append", default=[], choices=ARMS, help=arms.replace("%", "%%"))
    off = "refuse an arm that reaches something else than what it is called, as a share of that"
    parser.add_argument("--off", type=float, default=0.1, help=off)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--groups", type=int, default=2, help="balanced groups a pair, two blocks a seat each")
    parser.add_argument("--rounds", type=int, default=25, help="samples a block")
    parser.add_argument("--crews", type=int, default=8, help="pairs whose processes start together")
    parser.add_argument("--builds", type=int, default=24, help="engine builds of each side; fewer are rotated through")
    parser.add_argument("--cache", type=Path, default=Path(".trtgate"), help="engines and weights; kept between runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.samples, args.cache = args.samples.absolute(), args.cache.absolute()
    for text in args.case:
        case = Case.parse(text)
        if args.device == "cuda" and case.execution is not Execution.GRAPH:
            parser.error(f"{text} is not graphed: its device time is too noisy to calibrate a kernel on")
    return args


if __name__ == "__main__":
    sys.exit(main())
