"""Runs a whole gate: pair after pair of fresh processes until the judge has decided every case."""

from __future__ import annotations

import functools
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtgate.case import Case, Quantity
from trtgate.errors import EnvironmentInvalidError, NothingComparedError, StorageError, TrtgateError
from trtgate.gate.crew import Contest, Crew, for_each_member
from trtgate.gate.evidence import Evidence
from trtgate.gate.git import git
from trtgate.gate.member import Member
from trtgate.gate.plan import BASE, HEAD, TWIN, Wanted, builds_differ, contests_of
from trtgate.gate.problem import apart
from trtgate.gate.result import GateResult
from trtgate.gate.samples import SampleFile
from trtgate.gate.sides import Side
from trtgate.gate.station import Station
from trtgate.judge.verdict import Verdict
from trtgate.policy import Policy


@dataclass(slots=True)
class Session:
    """One gate.

    Attributes:
        base: the side that is the yardstick.
        head: the side that is judged.
        policy: margins, error rates and numbers of pairs.
        quantities: what is judged.
        wanted: which cases either side is asked for.
        asked: those of them that somebody named; the rest are the default, which may hold what cannot run here.
        station: set-up of the workers.
        say: told in a few words what is being done.
        samples: takes the raw samples, None to keep none.
        samples_lost: why the raw samples could not all be kept; the gate goes on without them.
        seed: of the order of the turns.
    """

    base: Side
    head: Side
    policy: Policy
    quantities: tuple[Quantity, ...]
    wanted: Wanted
    station: Station
    say: Callable[[str], None]
    asked: frozenset[str] = frozenset()
    samples: SampleFile | None = None
    seed: int = 0
    samples_lost: StorageError | None = field(default=None, init=False)
    _rng: random.Random = field(init=False)
    _evidence: Evidence = field(init=False)
    _family: set[int] = field(default_factory=lambda: {os.getpid()}, init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - an order of turns, no secret
        self._evidence = Evidence(self.policy, self.quantities)

    def run(self) -> GateResult:
        """Compare the two sides.

        Raises:
            SideError: the base cannot be imported, so that there is nothing to compare with.
            NothingComparedError: no case runs on either side.
            EnvironmentInvalidError: the sides see different machines.
            BackendAbsentError: the device is missing.
            UsageError: a case or a rule of the head's policy names a workload that neither side has.
        """
        evidence = self._evidence
        began_s = time.monotonic()
        pairs = 0
        looked = False
        wanted = 1
        while wanted:
            crews = self._crews(pairs, wanted)
            try:
                if pairs == 0:
                    self._survey(crews[0])
                else:
                    for_each_member(crews, Member.open)
                self._measure(crews)
            except TrtgateError as error:
                if pairs == 0:
                    raise  # nothing was seen yet: the error is all that there is to tell
                evidence.broken_off(str(error))
                break
            finally:
                for_each_member(crews, Member.close)
            pairs += len(crews)
            if pairs % evidence.pairs_a_build == 0:
                for_each_member(crews, Member.discard)  # a suite's engines are gigabytes, and nobody uses them again
            wanted = evidence.pairs_wanted()
            if not looked and pairs >= self.policy.judge.aa_pairs:
                looked = True  # once: each look at the A/A arm may be a false alarm
                if self._disturbed():
                    break  # more pairs cannot mend a machine on which identical code looks different
        return GateResult(
            base=self.base,
            head=self.head,
            decisions=evidence.decisions(),
            environment=evidence.environment(),
            skipped=evidence.skipped,
            notes=tuple(evidence.remarks()),
            identity=evidence.identities[BASE],
            pairs=pairs,
            elapsed_s=time.monotonic() - began_s,
        )

    def _crews(self, first: int, wanted: int) -> list[Crew]:
        """The next crews that start together.

        The first starts alone: it finds out what the sides can run, and exports what later builds start from. So does
        the first of a generation that several crews share, since it builds for all of them.
        """
        settings = self.policy.gate
        every = self._evidence.pairs_a_build
        place = first % every
        alone = first == 0 or (every > 1 and place == 0)
        left = every - place if every > 1 else wanted
        count = 1 if alone else min(wanted, left, settings.crews_at_once)
        sides = {BASE: self.base, HEAD: self.head, TWIN: self.base}
        if self.station.device == "cpu":  # what builds and computes on the same cores would only get in its own way
            count = min(count, max(1, (os.cpu_count() or 1) // len(sides)))
        return [Crew(pair, pair // every, sides, self.station) for pair in range(first, first + count)]

    def _survey(self, crew: Crew) -> None:
        """Start the first crew and find out what each side can run."""
        self.say(f"starting {self.base.spec} and {self.head.spec}")
        errors: dict[str, TrtgateError] = {}

        def start(member: Member) -> None:
            try:
                member.open()
            except TrtgateError as error:
                errors[member.role] = error

        for_each_member([crew], start)
        for role in (BASE, TWIN):
            if role in errors:  # without a base there is no gate, and its error is the one to show
                raise errors[role]
        base, head = crew.members[BASE], crew.members[HEAD]
        self._evidence.identify(BASE, base.identity)
        cases = self.wanted.cases(base.workloads, head.workloads)
        base_reasons = base.survey(cases)
        try:
            if HEAD in errors:
                raise errors[HEAD]
            self._evidence.identify(HEAD, head.identity)
            head_reasons = head.survey(cases)
        except EnvironmentInvalidError:
            raise
        except TrtgateError as error:
            head_reasons = dict.fromkeys(cases, str(error))
        broken = bool(base.broken_tensorrt or head.broken_tensorrt)
        owed = {case for case in cases if broken and Case.parse(case).backend.needs_tensorrt} | self.asked
        if not self._evidence.survey(base_reasons, head_reasons, owed):
            raise NothingComparedError(
                f"None of the {len(cases)} cases runs on the base or on the head; the first because: "
                f"{next(iter(base_reasons.values()), 'no case was named.')}",
                "Name cases that run here with --case, or in [gate] cases of trtgate.toml.",
            )

    def _measure(self, crews: Sequence[Crew]) -> None:
        """Build, prove and take turns, a few cases at a time, one crew after the other."""
        evidence = self._evidence
        fresh = [crew for crew in crews if crew.pair % evidence.pairs_a_build == 0]
        for cases in _chunks(evidence.open_cases(), self.policy.gate.cases_at_once):
            contests = contests_of(cases, self.quantities)
            self.say(f"pair {crews[0].pair + 1}: building {len(cases)} cases")
            for_each_member(crews, functools.partial(_build, contests), alone=Quantity.MEMORY in self.quantities)
            self._meet(crews)
            if fresh:
                self._prove(fresh, cases)
            if crews[0].pair == 0:
                self._check_imports(crews[0])
            for crew, contest in itertools.product(crews, contests):
                if contest.quantity in evidence.timed and evidence.is_open(contest.case, Quantity(contest.quantity)):
                    self._take(crew, contest)
            for_each_member(crews, functools.partial(_drop, contests))
        self._meet(crews)
        for crew in crews:
            evidence.observe(crew.members[BASE].environment(self._family))

    def _meet(self, crews: Sequence[Crew]) -> None:
        """Note who belongs to this gate, also once they have ended: to each other they are no strangers on the GPU."""
        for member in (member for crew in crews for member in crew.members.values()):
            if pid := member.pid:
                self._family.add(pid)
            # In a container NVML may call a worker by its id on the host, which only the worker can find out.
            self._family.update(own for built in member.facts.values() for own in built.get("gpu_ids", ()))

    def _without_family(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What a build says of itself, with strangers alone as its neighbours: the gate's own build one at a time."""
        return {**facts, "neighbours": sorted(set(facts.get("neighbours") or ()) - self._family)}

    def _check_imports(self, crew: Crew) -> None:
        """That each side runs its own code is known once it has built and computed."""
        trees = {side.tree for side in (self.base, self.head) if side.tree}
        if started_in := git(Path.cwd(), "rev-parse", "--show-toplevel"):
            trees.add(Path(started_in))
        for member in crew.members.values():
            member.check_imports(trees)

    def _prove(self, crews: Sequence[Crew], cases: Sequence[str]) -> None:
        """Parity before time: a case whose outputs are wrong in any build is not timed.

        What is no build (eager PyTorch) computes the same in every process, and is proven in the first pair alone.
        """
        self.say(f"pair {crews[0].pair + 1}: proving {len(cases)} cases")
        parity: dict[tuple[int, str, str], dict[str, Any] | None] = {}
        census: dict[tuple[int, str, str], dict[str, Any] | None] = {}

        def prove(member: Member) -> None:
            for case in cases if member.role != TWIN else ():
                if member.pair == 0 or builds_differ(case):
                    parity[member.pair, member.role, case] = member.parity(case)
                # A census takes a build of its own; layers differ less from build to build than times do.
                inspected = self.policy.gate.inspected_builds if builds_differ(case) else 1
                if Quantity.OPTIMISATION in self.quantities and member.generation < inspected:
                    census[member.pair, member.role, case] = member.census(case)

        for_each_member(crews, prove)
        for crew, case in itertools.product(crews, cases):
            problems: dict[str, TrtgateError | str] = {}
            for role in (BASE, HEAD):
                member = crew.members[role]
                if case in member.failures:
                    problems[role] = member.failures[case]
                elif wrong := self._evidence.built(
                    case, role, self._without_family(member.facts[case]), parity.get((crew.pair, role, case))
                ):
                    problems[role] = wrong
                elif told := census.get((crew.pair, role, case)):
                    self._evidence.inspected(case, role, told)
            if not problems and (other := apart(crew.members[BASE].facts[case], crew.members[HEAD].facts[case])):
                problems[HEAD] = other
            if not problems and case in crew.members[TWIN].failures:
                problems[TWIN] = crew.members[TWIN].failures[case]
            if not self._evidence.is_open(case):
                continue  # an earlier pair's build of it failed
            self._evidence.failed(case, problems)
            if not problems:
                self._evidence.renewed(case, {role: member.facts[case] for role, member in crew.members.items()})

    def _take(self, crew: Crew, contest: Contest) -> None:
        settings = self.policy.gate
        self.say(f"pair {crew.pair + 1}: {contest.quantity} of {contest.case}")
        taken = crew.take(
            contest, settings.groups, settings.block_rounds, self.policy.measure.max_discarded_blocks, self._rng
        )
        if taken.failures:  # whoever's turn came first failed first: the other side may fail as well
            taken.failures |= crew.failures_of(contest, {BASE, HEAD} - taken.failures.keys(), settings.block_rounds)
        if self.samples is not None and self.samples_lost is None:
            try:
                self.samples.append(taken)
            except StorageError as error:
                self.samples_lost = error
                self._evidence.notes.append(str(error))
        self._evidence.add(taken)

    def _disturbed(self) -> bool:
        environment = self._evidence.environment()
        return environment is not None and environment.verdict is Verdict.INVALID


def _build(contests: Sequence[Contest], member: Member) -> None:
    member.build(Crew.builds(contests, member.role))


def _drop(contests: Sequence[Contest], member: Member) -> None:
    member.drop(build.name for build in Crew.builds(contests, member.role))


def _chunks(items: Sequence[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
