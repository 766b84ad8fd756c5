"""The search behind `trtgate.measure.bisect`: what is shown in which run, and what a run is evidence of.

What is shown is not fused, so runs that show other tensors are runs of other engines. A run counts where it shows the
fault: what was wrong before is shown again, and wrong again. Where it is right all of a sudden, showing took the fault
away with a fusion, or builds differ; the latter is told by a run that shows it alone. The answer is confirmed in one
run: its output wrong and all that it is computed from right. Where that run contradicts what others had shown, the
search forgets them and goes on from what is wrong in it.

A run may take minutes, since an engine is built for it, and what is foreseen is not run: a set that holds all of a set
that took the fault away would take it away too, and what took it away alone is left for last. Both decide the order
alone. What a run is evidence of stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trtgate.measure.ancestry import Ancestry
from trtgate.measure.bisect_watch import Doing, Run, Watch, unwatched
from trtgate.measure.tensor_error import Array, TensorError, Tensors, tensor_error

_MASKING_TRIED: Final = 8  # each is a build of the engine


@dataclass(frozen=True, slots=True)
class Masking:
    """A tensor that takes the fault away when it is shown.

    Attributes:
        node: what makes it.
        op: its operator.
        tensor: how far it is from the reference where it is shown: right.
    """

    node: str
    op: str
    tensor: TensorError


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first node whose error jumps.

    Attributes:
        node: its name.
        op: its operator.
        output: the tensor that is wrong.
        inputs: the tensors that it is computed from, right in the very run in which the output is wrong; initialisers
            are left out.
        hidden: inputs that the candidate could not show.
        masking: tensors that the output is computed from, each of which takes the fault away when it is shown alone;
            the fault is then in how they are fused, and the node is the first whose output shows it.
        cut_off: whether the search ended with tensors that it had not looked at, because eight others took the fault
            away, and each takes a build to try.
    """

    node: str
    op: str
    output: TensorError
    inputs: tuple[TensorError, ...]
    hidden: tuple[str, ...] = ()
    masking: tuple[Masking, ...] = ()
    cut_off: bool = False

    @property
    def growth(self) -> float:
        """Error of the output over the largest error of the inputs; infinite without the latter or with NaN."""
        if self.output.non_finite:
            return math.inf
        before = max((one.relative_l2 for one in self.inputs), default=0.0)
        return self.output.relative_l2 / before if before > 0 else math.inf


class UnstableError(Exception):
    """A tensor was wrong in one run, and right in the next that showed it and nothing else."""


class OutOfRunsError(Exception):
    """The next run of the candidate would be one more than are allowed."""


class Search:
    """Walks from a wrong tensor up to the first.

    Args:
        graph: of the model.
        candidate: what is suspected.
        reference: the same graph, computed in a wider type.
        limit: relative L2 error that rounding explains.
        watch: is told of each run of the candidate.
        max_runs: how many runs of the candidate are allowed; any number without it.

    Attributes:
        seen: latest error of each tensor that was compared.
        probes: runs of the candidate.
    """

    def __init__(
        self,
        graph: Ancestry,
        candidate: Tensors,
        reference: Tensors,
        limit: float,
        watch: Watch = unwatched,
        max_runs: int | None = None,
    ) -> None:
        self._graph = graph
        self._candidate = candidate
        self._reference = reference
        self._limit = limit
        self._watch = watch
        self._max_runs = max_runs
        self.seen: dict[str, TensorError] = {}
        self.probes = 0
        self._hidden: set[str] = set()
        self._known: set[str] = set()
        self._masking: dict[str, TensorError] = {}
        self._masked_beside: dict[str, str] = {}
        self._inputs: dict[str, TensorError] = {}
        self._faults: dict[str, TensorError] = {}
        self._together: dict[str, TensorError] = {}
        self._confirmed: set[str] = set()
        self._cut_off = False

    def compare(self, tensors: Sequence[str], doing: Doing) -> dict[str, TensorError]:
        """Errors of the tensors in a run that shows them, without those that the candidate cannot show."""
        if self.probes == self._max_runs:
            raise OutOfRunsError
        self.probes += 1
        with self._watch(Run(self.probes, len(tensors), doing)):
            shown = dict(self._candidate.values(tensors))
        return self._errors(tensors, shown)

    def _errors(self, tensors: Sequence[str], shown: Mapping[str, Array]) -> dict[str, TensorError]:
        self._hidden.update(name for name in tensors if name not in shown and name not in self.seen)
        wanted = [name for name in tensors if name in shown]
        errors = {
            name: tensor_error(name, shown[name], expected, self._graph.datatype.get(name, ""))
            for name, expected in self._reference.values(wanted)
        }
        self.seen |= errors
        # Where a later run takes the fault away, it is told as it was.
        self._faults |= {name: one for name, one in errors.items() if one.wrong(self._limit)}
        return errors

    def culprit(self, wrong: str, at_once: int) -> Culprit:
        """The first node whose output is wrong although what it reads is right.

        Args:
            wrong: an output of the model that is wrong.
            at_once: tensors that are shown in one run, besides what is wrong.

        Raises:
            UnstableError: the fault comes and goes with builds of the same engine.
            OutOfRunsError: it is not found in so many runs; `earliest_wrong` tells what is.
        """
        first, count = wrong, at_once
        while True:
            first, count = self._narrow(first, count, at_once)
            earlier = self._wrong_parent(first, self._parents(first))
            if earlier is None:
                break
            # Another engine than those before: what was right in them is no evidence here.
            first, count = earlier, max(1, count // 2)
            self._known.clear()
            self._masking.clear()
            self._graph.reopen()
        node, op = self._graph.node(first)
        parents = self._graph.parents(first)
        fused = [name for name in (*self._graph.ancestors(first), *parents) if name in self._masking]
        return Culprit(
            node=node,
            op=op,
            output=self._faults[first],
            inputs=tuple(self._inputs[n] for n in parents if n in self._inputs and n not in self._masking),
            hidden=tuple(name for name in parents if name in self._hidden),
            masking=tuple(Masking(*self._graph.node(name), self._masking[name]) for name in dict.fromkeys(fused)),
            cut_off=self._cut_off,
        )

    def earliest_wrong(self) -> TensorError | None:
        """The tensor nearest to the inputs that was wrong in any run: a fault is at what makes it, or before that."""
        return min(self._faults.values(), key=lambda one: self._graph.position(one.tensor), default=None)

    def _narrow(self, first: str, count: int, at_once: int) -> tuple[str, int]:
        """Go up from a wrong tensor until nothing above it is left to look at; where that is, and the next count."""
        suspects: list[str] = []
        while True:
            unseen = [name for name in self._graph.ancestors(first) if not self._is_known(name)]
            self._cut_off = bool(unseen) and len(self._masking) >= _MASKING_TRIED
            if not unseen or self._cut_off:
                return first, count
            suspects = [name for name in suspects if name in unseen]
            picked = self._picked(unseen, suspects, count)
            doing = Doing.ASKING if len(picked) == 1 or (suspects and set(picked) <= set(suspects)) else Doing.NARROWING
            errors = self._run(picked, first, doing)
            if errors is not None:
                self._known.update(errors)
                wrong = [name for name, one in errors.items() if one.wrong(self._limit)]
                # What is right needs no look at what it was computed from.
                self._graph.close(errors.keys() - set(wrong))
                first = min([*wrong, first], key=self._graph.position)
                count = min(at_once, 2 * count)
                suspects = [name for name in suspects if name not in errors]
            else:
                count = max(1, len(picked) // 2)
                suspects = picked if len(picked) > 1 else []

    def _picked(self, unseen: Sequence[str], suspects: Sequence[str], count: int) -> list[str]:
        """What to show next.

        Args:
            unseen: what could be shown.
            suspects: some of it that took the fault away when it was shown together; empty where nothing did.
            count: at most so many.
        """
        # What took the fault away alone, before the search went on from another tensor, is likely to do so again.
        fresh = [name for name in unseen if name not in self._masked_beside]
        if not fresh:
            return [unseen[-1]]
        picked = spread(fresh, count)
        if suspects and set(suspects) <= set(picked):
            return spread(suspects, max(1, len(suspects) // 2))
        return picked

    def _run(self, tensors: Sequence[str], wrong: str, doing: Doing) -> dict[str, TensorError] | None:
        """Errors of tensors that are shown beside one that is wrong; None where nothing is wrong in this run."""
        errors = self.compare([*tensors, wrong], doing)
        again = errors.pop(wrong, None)
        if again is None or again.wrong(self._limit) or any(one.wrong(self._limit) for one in errors.values()):
            self._together = errors if again is None else {**errors, wrong: again}
            return errors
        self._require_stable(wrong)
        if len(errors) == 1:
            self._masking.update(errors)
            self._masked_beside |= dict.fromkeys(errors, wrong)
        return None

    def _require_stable(self, wrong: str) -> None:
        if wrong in self._confirmed:
            return
        again = self.compare([wrong], Doing.REPEATING).get(wrong)
        if again is not None and not again.wrong(self._limit):
            raise UnstableError(wrong)
        self._confirmed.add(wrong)

    def _parents(self, tensor: str) -> list[str]:
        """What a tensor is computed from, and has to be shown beside it before it is blamed."""
        # What took away the fault of another tensor behind it may leave this one's.
        masking = {name for name in self._masking if self._masked_beside[name] == tensor}
        return [name for name in self._graph.parents(tensor) if name not in self._hidden and name not in masking]

    def _wrong_parent(self, wrong: str, parents: Sequence[str]) -> str | None:
        """What a wrong tensor is computed from and is wrong beside it; None where all of that is right, or masks."""
        given = [name for name in parents if name in self._graph.inputs]
        if given:
            # The caller's own: the candidate hands them back, and is not run for it.
            self._inputs |= self._errors(given, dict(self._candidate.values(given)))
        computed = [name for name in parents if name not in given]
        if not computed:
            return None
        if self._together.keys() >= {wrong, *computed} and self._together[wrong].wrong(self._limit):
            errors: dict[str, TensorError] | None = {name: self._together[name] for name in computed}
        else:
            errors = self._run(computed, wrong, Doing.CONFIRMING)
        if errors is not None:
            self._inputs |= errors
            for name in errors:
                self._masking.pop(name, None)
            found = [name for name, one in errors.items() if one.wrong(self._limit)]
            return min(found, key=self._graph.position, default=None)
        if len(computed) == 1:
            return None
        # Several may take the fault away together, and then none of them is known.
        found = [one for name in computed if (one := self._wrong_parent(wrong, [name])) is not None]
        return min(found, key=self._graph.position, default=None)

    def _is_known(self, tensor: str) -> bool:
        return tensor in self._known or tensor in self._hidden or tensor in self._masking


def spread(names: Sequence[str], count: int) -> list[str]:
    """At most so many of them, evenly spread between the ends."""
    if len(names) <= count:
        return list(names)
    return [names[(index + 1) * len(names) // (count + 1)] for index in range(count)]
