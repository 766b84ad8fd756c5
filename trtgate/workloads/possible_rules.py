"""Holds the rules of a policy against the cases that can exist: a rule that no case can meet is a gate that sleeps.

The policy itself does not know the workloads; whoever uses both asks here.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trtgate.case import L2, BackendName, Case, Execution, Precision
from trtgate.errors import PolicyError, UnknownValueError
from trtgate.policy import Policy
from trtgate.policy.patterns import can_match_case, can_match_part
from trtgate.workloads.known import Known
from trtgate.workloads.registry import MICRO_MODELS


@dataclass(frozen=True, slots=True)
class _Problem:
    """A rule that no case of one side can meet: where it stands, and the two sentences of the error."""

    rule: str
    says: str
    fix: str


def require_possible(policy: Policy, source: Path | str, *sides: Known) -> None:
    """Refuse rules that name no case which can exist on any side.

    Args:
        policy: its floors, known failures, margins of cases, rules of optimisation, and cases of the gate.
        source: the file that it was read from, for the message.
        sides: what each knows of its workloads; a run has one, a gate two.

    Raises:
        PolicyError: a rule names a workload, backend, precision, shape or execution that does not exist, or a shape
            that its workload never has.
    """
    first, *others = (list(_problems(policy, known)) for known in sides)
    for problem in first:
        if all(any(other.rule == problem.rule for other in problems) for problems in others):
            raise PolicyError(f"{source}: {problem.says}", problem.fix)


def _problems(policy: Policy, known: Known) -> Iterator[_Problem]:
    optimisation = policy.optimisation
    for number, floor in enumerate(policy.floor, start=1):
        yield from _of_cell(f"[[floor]] number {number}", floor.workload, floor.shape, known)
    for number, text in enumerate(policy.gate.cases, start=1):
        case = Case.parse(text)
        yield from _of_cell(f"Case number {number} of [gate]", case.workload, case.shape, known)
    for number, failure in enumerate(policy.known_failure, start=1):
        for pattern in failure.patterns:
            yield from _of_pattern(f"[[known_failure]] number {number}", pattern, known)
    for number, margin in enumerate(policy.judge.case_margin, start=1):
        yield from _of_pattern(f"[[judge.case_margin]] number {number}", margin.case, known)
    for number, explained in enumerate(optimisation.explained, start=1):
        yield from _of_pattern(f"[[optimisation.explained]] number {number}", explained.case, known)
    for number, floor_of_layers in enumerate(optimisation.layer_floor, start=1):
        yield from _of_names(f"[[optimisation.layer_floor]] number {number}", floor_of_layers.workload, known)
    for number, limit in enumerate(optimisation.constant_limit, start=1):
        yield from _of_names(f"[[optimisation.constant_limit]] number {number}", limit.workload, known)
    for number, merged in enumerate(optimisation.merge_limit, start=1):
        yield from _of_micro_models(f"[[optimisation.merge_limit]] number {number}", merged.model)
    for number, noise in enumerate(policy.parity.sqnr_floor, start=1):
        yield from _of_names(f"[[parity.sqnr_floor]] number {number}", noise.workload, known)


def _of_cell(where: str, workload: str, shape: str, known: Known) -> Iterator[_Problem]:
    """A rule that names one workload and one shape."""
    if workload not in known.tokens:
        if known.complete:
            error = UnknownValueError("workload", workload, known.tokens)
            yield _Problem(where, f"{where}: {error.problem}", error.fix)
        return
    tokens = known.tokens[workload]
    if tokens == 0 or ("s" in shape) is (tokens is not None):
        return
    has = "has a sequence length" if tokens is not None else "has no sequence length"
    example = f"{shape}s{tokens}" if tokens is not None else shape.partition("s")[0]
    yield _Problem(
        where,
        f"{where} has the shape '{shape}', and {workload} {has}.",
        f"Write its shape as '{example}'.",
    )


def _of_names(where: str, pattern: str, known: Known) -> Iterator[_Problem]:
    """A rule whose pattern is for names of workloads."""
    if known.complete and not any(fnmatch.fnmatchcase(name, pattern) for name in known.tokens):
        yield _Problem(
            where,
            f"{where} names the workload '{pattern}', and there is none.",
            f"{_nearest(pattern, known.tokens)}Use one of: {', '.join(known.tokens)}.",
        )


def _of_micro_models(where: str, pattern: str) -> Iterator[_Problem]:
    """A rule whose pattern is for names of micro models."""
    if not any(fnmatch.fnmatchcase(name, pattern) for name in MICRO_MODELS):
        yield _Problem(
            where,
            f"{where} names the micro model '{pattern}', and there is none.",
            f"{_nearest(pattern, MICRO_MODELS)}Use one of: {', '.join(MICRO_MODELS)}.",
        )


def _of_pattern(where: str, pattern: str, known: Known) -> Iterator[_Problem]:
    """A rule whose pattern is for ids of cases."""
    named = {**known.tokens, **dict.fromkeys(MICRO_MODELS)}
    if can_match_case(pattern, named, any_workload=not known.complete):
        return
    workload, *rest = pattern.split("-")
    wrong, words = "", tuple(named)
    if not known.complete or any(fnmatch.fnmatchcase(name, workload) for name in named):
        words = (*BackendName, *Precision, *Execution, *L2)
        wrong = next((part for part in rest if not can_match_part(part)), "")
    else:
        wrong = workload
    yield _Problem(
        f"{where} '{pattern}'",
        f"{where} names the cases '{pattern}', and there can be none.",
        f"{_nearest(wrong, words)}Write workload-backend-precision-shape-execution, with '*' for what may differ; the "
        f"workloads are {', '.join(named)}.",
    )


def _nearest(pattern: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(pattern.strip("*?"), list(words), n=1)
    return f"Did you mean '{near[0]}'? " if near else ""
