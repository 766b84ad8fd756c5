"""What it means that one side of a comparison could not be measured."""

from __future__ import annotations

from collections.abc import Collection

from trtgate.judge.verdict import Decision, Verdict


def judge_absence(base_problem: str, head_problem: str) -> Decision | None:
    """Judge a case that at least one side could not build, prove or run.

    Args:
        base_problem: why the base has no measurement; empty where it has one.
        head_problem: the same of the head.

    Returns:
        The decision, or None where both sides have a measurement to compare.
    """
    if base_problem and head_problem:
        return Decision(Verdict.INVALID, "failed_both", f"Neither side could measure it: {head_problem}")
    if head_problem:
        return Decision(Verdict.MISSING, "failed", f"The head could not measure it, and the base could: {head_problem}")
    if base_problem:
        return Decision(Verdict.NEW, "recovered", f"The base could not measure it: {base_problem}")
    return None


def judge_skipped(problem: str) -> Decision:
    """Judge a case that was asked for and that neither side can run here."""
    return Decision(Verdict.INVALID, "skipped", f"It was asked for, and neither side can run it here: {problem}")


def judge_clocks(readings: Collection[str]) -> Decision | None:
    """Judge device times of sides whose clocks were read in these ways; None where it is one, and they compare."""
    if len(readings) <= 1:
        return None
    reason = f"The sides read device time in two ways: {' and '.join(sorted(readings))}."
    return Decision(Verdict.INCOMPARABLE, "clock", reason)


def judge_disturbed(problem: str) -> Decision:
    """Judge a case that the machine, not the code, kept from being measured."""
    return Decision(Verdict.INVALID, "disturbed", f"The machine kept it from being measured: {problem}")
