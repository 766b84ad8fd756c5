"""What a gate has seen so far, put to the judge."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trtgate.case import Quantity
from trtgate.errors import EnvironmentInvalidError, OutOfDeviceMemoryError, StorageError, TrtgateError
from trtgate.gate.crew import Taken
from trtgate.gate.plan import AA, BASE, CHANGE, HEAD, TWIN, builds_differ
from trtgate.gate.stated import Stated
from trtgate.judge.environment import environment_valid, repeats_well
from trtgate.judge.pairs import log_ratio
from trtgate.judge.presence import judge_absence, judge_clocks, judge_disturbed, judge_skipped
from trtgate.judge.sequential import NeedMore, Sequential
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy import Policy
from trtgate.policy.gate import TIMED
from trtgate.record import Environment, Identity, Parity

Key = tuple[str, Quantity]
_MACHINE = ("gpu", "driver", "cpu", "threads")


@dataclass(slots=True)
class Evidence:
    """Everything seen of both sides.

    Attributes:
        policy: margins and error rates.
        quantities: what is judged.
        settled: decisions that no further pair can change: a case that only one side can measure.
        skipped: by case that nobody asked for by name, why neither side can run it here.
        identities: by role, machine and stack.
        notes: what a reader should know of the machine.
    """

    policy: Policy
    quantities: tuple[Quantity, ...]
    settled: dict[Key, Decision] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _broken_off: str = ""
    _environments: list[Environment] = field(default_factory=list)
    _cases: list[str] = field(default_factory=list)
    _ratios: dict[str, dict[Key, list[float]]] = field(default_factory=lambda: {CHANGE: {}, AA: {}})
    _stated: Stated = field(init=False)

    def __post_init__(self) -> None:
        self._stated = Stated(self.policy.judge, self.quantities)

    @property
    def timed(self) -> tuple[Quantity, ...]:
        """The judged quantities that are sampled in turns."""
        return tuple(quantity for quantity in self.quantities if quantity in TIMED)

    @property
    def paired(self) -> tuple[Quantity, ...]:
        """The judged quantities of which every pair of processes has one ratio."""
        return tuple(quantity for quantity in self.quantities if quantity in (*TIMED, Quantity.BUILD))

    @property
    def pairs_a_build(self) -> int:
        """Pairs that share each engine build; where nothing is timed, pairs are there for their builds alone."""
        return self.policy.gate.renew_build_every if self.paired else 1

    def identify(self, role: str, identity: Mapping[str, Any]) -> None:
        """Note machine and stack of a side.

        Raises:
            EnvironmentInvalidError: the two sides do not see the same machine.
        """
        self.identities[role] = Identity.model_validate(identity)
        base, head = self.identities.get(BASE), self.identities.get(HEAD)
        if base is None or head is None:
            return
        for name in _MACHINE:
            if getattr(base, name) != getattr(head, name):
                raise EnvironmentInvalidError(
                    f"The sides see different machines: {name} is {getattr(base, name)} and {getattr(head, name)}.",
                    "Start both with the same CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS and driver.",
                )
        # Two installed environments may differ in their stack; that difference is then part of what is compared.
        changed = [name for name in type(base).model_fields if getattr(base, name) != getattr(head, name)]
        self.notes += [f"{name}: {getattr(base, name)} -> {getattr(head, name)}" for name in changed]

    def survey(self, base: Mapping[str, str], head: Mapping[str, str], owed: Collection[str] = ()) -> bool:
        """Take in which cases the sides can run.

        Args:
            base: by case the reason why the base cannot, empty where it can.
            head: the same of the head.
            owed: cases without which there is no pass. Of the others, which neither side can run, a note is enough.

        Returns:
            Whether any case can be run by either side.
        """
        clocks = judge_clocks({one.device_clock for one in self.identities.values()})
        for case in base:
            if base[case] and head[case]:
                if case in owed:
                    self._settle(case, judge_skipped(base[case]))
                else:
                    self.skipped[case] = base[case]
                continue
            absence = judge_absence(base[case], head[case])
            if absence is None:
                self._cases.append(case)
                for quantity in self.paired:
                    self._ratios[CHANGE][case, quantity] = []
                    self._ratios[AA][case, quantity] = []
                if clocks is not None and Quantity.DEVICE in self.timed:
                    self._settle_row((case, Quantity.DEVICE), clocks)
            else:
                self._settle(case, absence)
        return not all(base[case] and head[case] for case in base)

    def built(self, case: str, role: str, facts: Mapping[str, Any], parity: Mapping[str, Any] | None) -> str:
        """Take in what an engine build says of itself, and how right it is; None where an earlier pair proved that.

        Returns:
            Why its outputs are wrong; empty where they are right.
        """
        found = Parity.model_validate(parity) if parity is not None else None
        self._stated.built(case, role, facts, found)
        return "" if found is None or found.passed else f"its outputs are wrong: {found.message}"

    def inspected(self, case: str, role: str, census: Mapping[str, Any]) -> None:
        """Take in what the optimiser made of one build of a case."""
        self._stated.inspected(case, role, census)

    def renewed(self, case: str, builds: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in how long the builds of one pair took: by role, base, head and twin, what the build says of itself."""
        key = case, Quantity.BUILD
        if key not in self._ratios[CHANGE]:
            return
        if any(build.get("from_cache") for build in builds.values()):
            self._settle_row(
                key, Decision(Verdict.INCOMPARABLE, "from_cache", "A build read from a cache has no time.")
            )
            return
        # The export is made once a side, so that one pair has it and the others do not.
        seconds = {
            role: sum(spent for stage, spent in build["stages_s"].items() if stage != "export")
            for role, build in builds.items()
        }
        if min(seconds.values()) <= 0:
            self._settle_row(key, Decision(Verdict.INVALID, "no_samples", "A build says that it took no time."))
            return
        for arm, role in ((CHANGE, HEAD), (AA, TWIN)):
            self._ratios[arm][key].append(math.log(seconds[role] / seconds[BASE]))

    def failed(self, case: str, problems: Mapping[str, TrtgateError | str]) -> None:
        """Close a case that could not be built, proven or timed; by role what was wrong. Without problems nothing."""
        if not problems:
            return
        # A twin that fails where the base does not: the same code, so that it is not the code's fault.
        twins = TWIN in problems and BASE not in problems
        disturbed = [error for role, error in problems.items() if (twins and role == TWIN) or _machines_fault(error)]
        if disturbed:
            self._settle(case, judge_disturbed(str(disturbed[0])))
            return
        absence = judge_absence(str(problems.get(BASE, "")), str(problems.get(HEAD, "")))
        assert absence is not None
        self._settle(case, absence)

    def add(self, taken: Taken) -> None:
        """Take in the blocks of one contest of one pair."""
        case, quantity = taken.contest.case, Quantity(taken.contest.quantity)
        if taken.failures:
            self.failed(case, taken.failures)
            return
        for arm, (base, head) in taken.contest.arms.items():
            self._ratios[arm][case, quantity].append(log_ratio(taken.blocks[base], taken.blocks[head]))
        note = f"{case}: device time includes waiting for the host"
        if taken.host_bound and note not in self.notes:
            self.notes.append(note)

    def broken_off(self, problem: str) -> None:
        """Take in that no further pair can be had. What is decided stays; what is open is no verdict on the code."""
        self._broken_off = problem

    def observe(self, environment: Mapping[str, Any] | None) -> None:
        """Take in the state of the device as one process saw it."""
        if environment is not None:
            self._environments.append(Environment.model_validate(environment))

    def _observations(self) -> list[str]:
        """What was seen of the device, one sentence each; nothing where there is no GPU."""
        clocks = [clock for seen in self._environments for clock in seen.sm_clock_mhz or ()]
        reasons = sorted({reason for seen in self._environments for reason in seen.throttle_reasons})
        strangers = sorted({pid for seen in self._environments for pid in seen.neighbours})
        told = [f"SM clock {min(clocks)} - {max(clocks)} MHz."] if clocks else []
        told += [f"The GPU's clocks were held back: {', '.join(reasons)}."] if reasons else []
        told += [f"Other processes were on the GPU: {', '.join(map(str, strangers))}."] if strangers else []
        return told

    def open_cases(self) -> list[str]:
        """Cases that want more pairs."""
        wanting = {key[0] for key, answer in self._answers().items() if isinstance(answer, NeedMore)}
        return [case for case in self._cases if case in wanting or self._builds_wanted(case)]

    def is_open(self, case: str, quantity: Quantity | None = None) -> bool:
        """Whether a case, or a timed quantity of it, is still to be measured."""
        return case in self._cases and (quantity is None or (case, quantity) in self._ratios[CHANGE])

    def pairs_wanted(self) -> int:
        """Pairs of processes that the judge still wants, 0 when everything is decided."""
        timed = max((a.pairs for a in self._answers().values() if isinstance(a, NeedMore)), default=0)
        return max([timed, *map(self._builds_wanted, self._cases)])

    def _builds_wanted(self, case: str) -> int:
        """Engine builds that are still missing before what a build states of itself is no luck."""
        stated = [quantity for quantity in self.quantities if quantity not in self.paired]
        if not stated:
            return 0
        alike = not builds_differ(case) and Quantity.MEMORY not in stated
        enough = 1 if alike else self.policy.gate.builds
        if self.paired:  # what is timed brings builds of its own, and may be decided after so many
            enough = min(enough, -(-self.policy.judge.first_pairs // self.pairs_a_build))
        return max(0, enough - self._stated.builds_made(case))

    def environment(self) -> Decision | None:
        """The judge's word on the A/A arm; None where nothing was timed.

        Builds load the host and the disk, so that theirs condemns build times alone where anything else is judged.
        """
        return self._fitness(self.timed or self.paired)

    def _fitness(self, quantities: Iterable[Quantity]) -> Decision | None:
        arm = {_text(key): ratios for key, ratios in self._ratios[AA].items() if key[1] in quantities}
        steady = {_text(key) for key in self._ratios[AA] if repeats_well(*key)}
        found = environment_valid(arm, self.policy.judge, self._margins(), steady) if arm else None
        missing = found is not None and found.code == "aa_missing"
        return judge_disturbed(self._broken_off) if missing and self._broken_off else found

    def decisions(self) -> dict[Key, Decision]:
        """Every decision, timed and stated, in the order of the cases."""
        made = dict(self.settled)
        timed, builds = self._fitness(self.timed), self._fitness([Quantity.BUILD])
        for key, answer in self._answers().items():
            fitness = builds if key[1] is Quantity.BUILD else timed
            if fitness is not None and fitness.verdict is Verdict.INVALID:
                made[key] = Decision(Verdict.INVALID, fitness.code, fitness.reason)
            elif isinstance(answer, Decision):
                made[key] = answer
            elif self._broken_off:
                made[key] = judge_disturbed(self._broken_off)
            else:
                made[key] = Decision(Verdict.INCONCLUSIVE, "unfinished", f"The gate ended early: {answer.reason}.")
        stated = self._stated.decisions(self._cases)
        for key in stated if self._broken_off else ():
            if self._builds_wanted(key[0]):
                stated[key] = judge_disturbed(self._broken_off)
        return made | stated

    def remarks(self) -> list[str]:
        """What a reader should know of the machine and of what was not judged, one sentence each."""
        shared = self.pairs_a_build
        told = [f"{shared} pairs share each engine build: the luck of a build may decide."] if shared > 1 else []
        return [*self.notes, *told, *self._stated.notes(self._cases), *self._observations()]

    def _answers(self) -> dict[Key, Decision | NeedMore]:
        ratios = self._ratios[CHANGE]
        answers = Sequential(self.policy.judge, self._margins()).update(
            {_text(key): taken for key, taken in ratios.items()}
        )
        return {key: answers[_text(key)] for key in ratios}

    def _margins(self) -> dict[str, float]:
        return {_text(key): self.policy.judge.margin_for(*key) for key in self._ratios[CHANGE]}

    def _settle_row(self, key: Key, decision: Decision) -> None:
        self.settled[key] = decision
        for arm in self._ratios.values():
            arm.pop(key, None)

    def _settle(self, case: str, decision: Decision) -> None:
        """Decide a case for good; what was timed of it so far does not count."""
        self.settled[case, self.quantities[0]] = decision
        if case in self._cases:
            self._cases.remove(case)
        for arm in self._ratios.values():
            for quantity in self.paired:
                arm.pop((case, quantity), None)


def _text(key: Key) -> str:
    return f"{key[0]} {key[1]}"


def _machines_fault(error: TrtgateError | str) -> bool:
    """Whether a failure says nothing of the code: several processes share the GPU's memory, its cooling, and a disk."""
    return isinstance(error, (OutOfDeviceMemoryError, EnvironmentInvalidError, StorageError))
