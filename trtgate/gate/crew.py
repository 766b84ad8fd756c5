"""One pair of processes (with its A/A twin): the unit of replication of a gate.

Every pair is new processes. Inside a pair the sides take turns block by block on the same device, so that drift of
clocks and temperature falls on all of them alike; between pairs everything is renewed, so that the luck of one process
does not decide.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from trtgate.errors import EnvironmentInvalidError, TrtgateError
from trtgate.gate.member import Block, Build, Member
from trtgate.gate.sides import Side
from trtgate.gate.station import Station
from trtgate.gate.turns import balanced

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Seat:
    """One runner among those that take turns on a case.

    Attributes:
        label: unique among the seats of a case, such as ``base``, ``head``, ``twin`` or ``+3%``.
        role: member that hosts it.
        build: what the member builds for it.
    """

    label: str
    role: str
    build: Build


@dataclass(frozen=True, slots=True)
class Contest:
    """One quantity of one case, and who takes turns on it.

    Attributes:
        case: case id.
        quantity: ``device`` or ``latency``.
        seats: who takes turns.
        arms: by arm, the labels of its base seat and of its head seat.
    """

    case: str
    quantity: str
    seats: tuple[Seat, ...]
    arms: Mapping[str, tuple[str, str]]


@dataclass(slots=True)
class Taken:
    """Blocks that one pair took of one contest.

    Attributes:
        contest: what was measured.
        pair: number of the pair.
        groups: balanced groups of turns that were kept.
        blocks: by seat, its blocks in the order in which they were taken; seconds an inference.
        turns: by seat, the position of each block among all blocks of the contest.
        discarded: for each group that was thrown away, why the GPU was throttled.
        host_bound: whether any device time includes waiting for the host.
        failures: by seat, why the contest ended early. Its blocks are then not to be judged.
    """

    contest: Contest
    pair: int
    groups: int = 0
    blocks: dict[str, list[list[float]]] = field(default_factory=dict)
    turns: dict[str, list[int]] = field(default_factory=dict)
    discarded: list[list[str]] = field(default_factory=list)
    host_bound: bool = False
    failures: dict[str, TrtgateError] = field(default_factory=dict)

    def add(self, group: Sequence[tuple[Seat, Block]]) -> None:
        """Keep a balanced group of turns."""
        for position, (seat, block) in enumerate(group):
            self.blocks.setdefault(seat.label, []).append(list(block.samples_s))
            self.turns.setdefault(seat.label, []).append(self.groups * len(group) + position)
            self.host_bound |= block.host_bound
        self.groups += 1


class Crew:
    """The processes of one pair.

    Args:
        pair: number of the pair.
        generation: which of the rotating engine builds the pair uses.
        sides: by role, whose code the member runs.
        station: set-up of the workers.
    """

    def __init__(self, pair: int, generation: int, sides: Mapping[str, Side], station: Station) -> None:
        self.pair = pair
        self.generation = generation
        self.members = {role: Member(role, side, pair, generation, station) for role, side in sides.items()}

    def build(self, contests: Sequence[Contest]) -> None:
        """Build the runners of several contests, all members at once."""
        for_each_member([self], lambda member: member.build(self.builds(contests, member.role)))

    def drop(self, contests: Sequence[Contest]) -> None:
        """Close the runners of several contests."""
        for role, member in self.members.items():
            member.drop(build.name for build in self.builds(contests, role))

    def take(self, contest: Contest, groups: int, rounds: int, most_discarded: int, rng: random.Random) -> Taken:
        """Warm every seat up and let them take turns, one process at a time.

        Args:
            contest: a contest whose runners are built.
            groups: balanced groups of turns; each gives every seat two blocks.
            rounds: samples a block.
            most_discarded: groups that may be thrown away because the GPU was throttled.
            rng: source of the order.
        """
        taken = Taken(contest, self.pair)
        for seat in contest.seats:
            if not self.members[seat.role].warm_up(seat.build.name, contest.quantity):
                return self._failed(taken, seat)
        while taken.groups < groups:
            group: list[tuple[Seat, Block]] = []
            for seat in balanced(contest.seats, 2, rng):
                block = self.members[seat.role].sample(seat.build.name, contest.quantity, rounds)
                if block is None:
                    return self._failed(taken, seat)
                group.append((seat, block))
            throttled = sorted({reason for _, block in group for reason in block.throttled})
            if not throttled:
                taken.add(group)
                continue
            # A group stays or goes as a whole: without one of its blocks it is no longer balanced.
            taken.discarded.append(throttled)
            _log.warning(
                "%s, pair %d: throttled (%s), a group of blocks is taken again", contest.case, self.pair, throttled
            )
            if len(taken.discarded) > most_discarded:
                taken.failures[contest.seats[0].label] = EnvironmentInvalidError(
                    f"The GPU was throttled ({', '.join(throttled)}) in {len(taken.discarded)} groups of blocks.",
                    "Cool the GPU, lower its power draw, or lock its clocks lower.",
                )
                break
            # The pauses of measure.timing: long enough for the clocks to come back, soon enough not to cool down.
            time.sleep(min(_FIRST_PAUSE_S * 2 ** (len(taken.discarded) - 1), _LONGEST_PAUSE_S))
        return taken

    def failures_of(self, contest: Contest, labels: Collection[str], rounds: int) -> dict[str, TrtgateError]:
        """Whether these seats too cannot warm up and give a block, after the contest ended early: by seat, why."""
        failures: dict[str, TrtgateError] = {}
        for seat in contest.seats:
            member = self.members[seat.role]
            if seat.label in labels and not (
                member.warm_up(seat.build.name, contest.quantity)
                and member.sample(seat.build.name, contest.quantity, rounds)
            ):
                failures[seat.label] = member.failures[seat.build.name]
        return failures

    def close(self) -> None:
        """End all processes."""
        for member in self.members.values():
            member.close()

    def _failed(self, taken: Taken, seat: Seat) -> Taken:
        taken.failures[seat.label] = self.members[seat.role].failures[seat.build.name]
        return taken

    @staticmethod
    def builds(contests: Sequence[Contest], role: str) -> list[Build]:
        """What the member of a role builds for these contests, each runner once."""
        wanted = {seat.build.name: seat.build for contest in contests for seat in contest.seats if seat.role == role}
        return list(wanted.values())


def for_each_member(crews: Sequence[Crew], work: Callable[[Member], None], *, alone: bool = False) -> None:
    """Do something with every member of several crews at once, and wait for all.

    Starting and building is where a gate spends its time, and one process waits mostly for itself. Nothing is timed
    meanwhile, so they may disturb each other; threads are gone when this returns.

    Args:
        crews: whose members.
        work: what to do.
        alone: one member after the other. A build's memory is growth of what is used on the whole device, so nobody
            else may build where memory is judged.

    Raises:
        TrtgateError: the first error, in the order of the members, after all have ended.
    """
    members = [member for crew in crews for member in crew.members.values()]
    with ThreadPoolExecutor(max_workers=1 if alone else len(members)) as pool:
        pending = [pool.submit(work, member) for member in members]
    for done in pending:
        done.result()
