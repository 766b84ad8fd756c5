"""How a gate ends. The command line turns each outcome into its exit code."""

from __future__ import annotations

from enum import StrEnum


class GateOutcome(StrEnum):
    """The one-word result of a whole gate, worst first."""

    INVALID = "invalid"
    """Even identical code looked different: the machine is too disturbed for a verdict."""

    REGRESSION = "regression"
    """At least one case became slower, bigger, wrong, or vanished."""

    NOTHING_COMPARED = "nothing_compared"
    """Not one case could be compared, which is never a pass."""

    INCONCLUSIVE = "inconclusive"
    """No regression was shown, and at least one case could not be shown to be free of one."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    """Every case was compared and none became worse."""
