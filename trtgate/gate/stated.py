"""Quantities that a build states rather than a sampler: plan size, memory, parity error, and the layers it kept.

Every build of a side is one figure, and the median over the builds is compared: the luck of one build does not decide.
A quantity that was asked for never vanishes: one that only one side states is MISSING or NEW, one that neither side
states although its backend could is INVALID, and one that no side's backend has is named in a note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trtgate.case import Quantity
from trtgate.gate.plan import BASE, HEAD
from trtgate.judge.exact import judge_exact, least_figure
from trtgate.judge.memory import Memory, judge_memory
from trtgate.judge.optimised import agreed, judge_census
from trtgate.judge.presence import judge_absence
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings
from trtgate.record import Parity

Key = tuple[str, Quantity]
_Figures = npt.NDArray[np.float64]
_STATED = (Quantity.PARITY, Quantity.PLAN, Quantity.MEMORY, Quantity.OPTIMISATION)


@dataclass(slots=True)
class Stated:
    """What the builds of both sides said of themselves.

    Attributes:
        settings: margins.
        quantities: what is judged; timed ones are not this class's.
    """

    settings: JudgeSettings
    quantities: tuple[Quantity, ...]
    _builds: dict[tuple[str, str], list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    _parity: dict[tuple[str, str], list[Parity]] = field(default_factory=lambda: defaultdict(list))
    _census: dict[tuple[str, str], list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def built(self, case: str, role: str, facts: Mapping[str, Any], parity: Parity | None) -> None:
        """Take in what one build says of itself, and how right it is; None where an earlier one proved that for it."""
        self._builds[case, role].append(facts)
        if parity is not None:
            self._parity[case, role].append(parity)

    def inspected(self, case: str, role: str, census: Mapping[str, Any]) -> None:
        """Take in what the optimiser made of one build of a case."""
        self._census[case, role].append(census)

    def builds_made(self, case: str) -> int:
        """Builds that both sides have told of."""
        return min(len(self._builds[case, role]) for role in (BASE, HEAD))

    def decisions(self, cases: Iterable[str]) -> dict[Key, Decision]:
        """Every quantity of these cases that at least one side has."""
        made = {key: self._decide(*key) for key in self._keys(cases)}
        return {key: decision for key, decision in made.items() if decision is not None}

    def notes(self, cases: Iterable[str]) -> list[str]:
        """A sentence for each quantity that was asked for and that no side's backend has."""
        absent: defaultdict[Quantity, list[str]] = defaultdict(list)
        for case, quantity in self._keys(cases):
            if self._decide(case, quantity) is None:
                absent[quantity].append(case)
        return [f"Not judged, neither side has it: {quantity} of {', '.join(of)}." for quantity, of in absent.items()]

    def _keys(self, cases: Iterable[str]) -> list[Key]:
        wanted = [quantity for quantity in self.quantities if quantity in _STATED]
        return [(case, quantity) for case in cases for quantity in wanted]

    def _decide(self, case: str, quantity: Quantity) -> Decision | None:
        if not self._builds[case, BASE] or not self._builds[case, HEAD]:
            return Decision(Verdict.INVALID, "not_built", "The gate ended before this case was built and proven.")
        if quantity is Quantity.OPTIMISATION:
            return self._optimised(case)
        return self._memory(case) if quantity is Quantity.MEMORY else self._figures(case, quantity)

    def _memory(self, case: str) -> Decision | None:
        base, head = (Memory.of_builds(self._builds[case, role]) for role in (BASE, HEAD))
        if base is None and head is None:
            return None
        absence = judge_absence(*_unstated(Quantity.MEMORY, base, head))
        if absence is not None or base is None or head is None:
            return absence
        return judge_memory(base, head, self.settings, self.settings.margin_for(case, Quantity.MEMORY))

    def _figures(self, case: str, quantity: Quantity) -> Decision | None:
        base, head = (self._figures_of(case, role, quantity) for role in (BASE, HEAD))
        if base is None and head is None:
            return None
        absence = judge_absence(*_unstated(quantity, base, head))
        if absence is not None or base is None or head is None:
            return absence
        least = least_figure(quantity, self.settings, self._parity[case, BASE][0], base.size)
        return judge_exact(base, head, quantity, self.settings.margin_for(case, quantity), least)

    def _figures_of(self, case: str, role: str, quantity: Quantity) -> _Figures | None:
        """The median over the builds: of a plan one figure, of parity one an output; None where no build tells."""
        if quantity is Quantity.PARITY:
            return np.median([[output.relative_l2 for output in one.outputs] for one in self._parity[case, role]], 0)
        told = [build.get("plan_bytes") for build in self._builds[case, role]]
        figures = [figure for figure in told if figure is not None]
        return np.array([np.median(figures)]) if figures else None

    def _optimised(self, case: str) -> Decision | None:
        builds = list(zip(self._census[case, BASE], self._census[case, HEAD], strict=False))
        if not builds:
            return Decision(Verdict.INVALID, "not_inspected", "The gate ended before this case was inspected.")
        # A side's own older code may not say whether its backend has layers at all; the other side then speaks for it.
        lacking = [told["facts"] is None and told.get("unsupported", True) for pair in builds for told in pair]
        if all(lacking):
            return None
        margin = self.settings.margin_for(case, Quantity.OPTIMISATION)
        return agreed([_of_builds(base, head, margin) for base, head in builds])


def _unstated(quantity: Quantity, base: object, head: object) -> list[str]:
    return [f"its build states no {quantity.value}." if one is None else "" for one in (base, head)]


def _of_builds(base: Mapping[str, Any], head: Mapping[str, Any], margin: float) -> Decision:
    problems = ["" if told["facts"] is not None else told.get("reason", "") for told in (base, head)]
    return judge_absence(*problems) or judge_census(base["facts"], head["facts"], margin)
