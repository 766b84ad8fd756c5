"""Finds, case by case, how much busy work lengthens an inference by the fractions that the power arms want."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from trtgate.artefacts import replace
from trtgate.case import Quantity
from trtgate.errors import MeasurementError, TrtgateError
from trtgate.gate.calibration import PROBED, Calibrated, calibrate
from trtgate.gate.crew import Contest, Crew, Seat, Taken, for_each_member
from trtgate.gate.member import Build, Member
from trtgate.gate.sides import Side
from trtgate.gate.station import Station
from trtgate.judge.pairs import log_ratio

_CLEAN: Final = "clean"
_ROLE: Final = "head"
_MOST_DISCARDED: Final = 10
_TURNS_A_SECOND: Final = 2.5e7  # of an empty loop on a CPU: the first guess only


@dataclass(frozen=True, slots=True)
class Probing:
    """How a case is probed.

    Attributes:
        station: set-up of the workers.
        side: whose code they run.
        crews: processes that build at the same time.
        groups: balanced groups of turns a probe.
        rounds: samples a block.
        arms: wanted fraction by name.
        off: how far what is reached may lie off it, as a share.
        rng: source of the order of turns.
        say: told what is being done.
    """

    station: Station
    side: Side
    crews: int
    groups: int
    rounds: int
    arms: Mapping[str, float]
    off: float
    rng: random.Random
    say: Callable[[str], None]

    @property
    def quantity(self) -> Quantity:
        """What a busy kernel lengthens."""
        return Quantity.DEVICE if self.station.device == "cuda" else Quantity.LATENCY


def busy_build(case: str, units: int) -> Build:
    """A runner that so many units lengthen."""
    return Build(f"{case}+{units}", case, units)


def units_for(cases: Sequence[str], kept: Path, probing: Probing) -> dict[str, dict[str, int]]:
    """Busy units by case and arm: as kept in a file beside the samples, else measured now and kept there.

    A case that does not answer to busy work, or is too noisy, has none.

    Raises:
        TrtgateError: a case cannot be built or run.
    """
    told = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    known: dict[str, dict[str, int]] = told.get("units", {})
    refused: dict[str, dict[str, float | None]] = told.get("refused", {})
    missing = [
        case for case in cases if not probing.arms.keys() <= known.get(case, {}).keys() | refused.get(case, {}).keys()
    ]
    waiting = iter(missing)
    while some := list(islice(waiting, probing.crews)):
        for case, found in _calibrated(some, probing):
            # What earlier pairs were recorded with stays.
            known[case] = found.units | known.get(case, {})
            refused[case] = found.refused | refused.get(case, {})
            probing.say(f"{case}: {found.units}" + (f", refused: {found.refused}" if found.refused else ""))
            write_json(kept, told | {"units": known, "refused": refused})
    return {case: {arm: units for arm, units in known[case].items() if arm in probing.arms} for case in cases}


def _calibrated(cases: Sequence[str], probing: Probing) -> Iterator[tuple[str, Calibrated]]:
    """Build the cases side by side, a process each, and probe one after the other while the rest wait."""
    crews = [Crew(0, place, {_ROLE: probing.side}, probing.station) for place in range(len(cases))]
    try:
        for_each_member(crews, functools.partial(_build_clean, dict(enumerate(cases))))
        for case, crew in zip(cases, crews, strict=True):
            clean = crew.take(_contest(case, probing), 1, probing.rounds, _MOST_DISCARDED, probing.rng)
            require_success(clean)
            first = PROBED * float(np.median(np.concatenate(clean.blocks[_CLEAN]))) * _units_a_second(crew)
            measure = functools.partial(_lengthening, case, crew, probing)
            try:
                yield case, calibrate(case, measure, probing.arms, round(first), probing.off)
            except MeasurementError as error:  # one case without power arms is no reason to record nothing
                probing.say(str(error))
                yield case, Calibrated(refused=dict.fromkeys(probing.arms))
            crew.close()
    finally:
        for_each_member(crews, Member.close)


def _build_clean(cases: Mapping[int, str], member: Member) -> None:
    member.open()
    member.build([busy_build(cases[member.generation], 0)])
    raise_first(member.failures)


def _units_a_second(crew: Crew) -> float:
    """Cycles of the GPU at the clock that it was last seen at, or turns of a loop on the CPU."""
    seen = crew.members[_ROLE].environment(()) or {}
    clock_mhz = seen.get("sm_clock_mhz")
    return max(clock_mhz) * 1e6 if clock_mhz else _TURNS_A_SECOND


def _lengthening(case: str, crew: Crew, probing: Probing, units: int) -> float:
    """By what fraction a busy kernel lengthens a case, measured in one process."""
    contest = _contest(case, probing, units)
    crew.build([Contest(case, contest.quantity, contest.seats[1:], {})])
    taken = crew.take(contest, probing.groups, probing.rounds, _MOST_DISCARDED, probing.rng)
    require_success(taken)
    crew.drop([Contest(case, contest.quantity, contest.seats[1:], {})])
    return exp(log_ratio(taken.blocks[_CLEAN], taken.blocks[str(units)])) - 1


def _contest(case: str, probing: Probing, *probes: int) -> Contest:
    seats = [Seat(_CLEAN, _ROLE, busy_build(case, 0)), *(Seat(str(n), _ROLE, busy_build(case, n)) for n in probes)]
    return Contest(case, probing.quantity.value, tuple(seats), {})


def require_success(taken: Taken) -> None:
    """Raise what ended a contest early."""
    raise_first(taken.failures)


def raise_first(failures: Mapping[str, TrtgateError]) -> None:
    """Raise the first of some errors, if there is one."""
    for error in failures.values():
        raise error


def write_json(path: Path, content: object) -> None:
    """Write a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, f"{json.dumps(content, indent=2)}\n".encode())
