"""Whether a shell pattern can match anything at all: a rule whose pattern cannot is a gate that sleeps.

Patterns are those of `fnmatch`. What they are to match is described piece by piece, so that sizes and versions, of
which there are infinitely many, need no list.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

from trtgate.case import L2, BackendName, Execution, Precision

Positions: TypeAlias = frozenset[int]

RUNTIMES: Final = ("tensorrt", "tensorrt_rtx", "torch", "onnxruntime")
"""What a runtime's name begins with; its version follows after a space."""

_DIGITS: Final = "0123456789"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_VERSION: Final = _DIGITS + _LETTERS + ".+-_"
_ONE_CHARACTER = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


class Glob:
    """A pattern, and where in it one may be after having read some text.

    Args:
        pattern: with ``*``, ``?``, ``[...]`` and ``[!...]``.
    """

    def __init__(self, pattern: str) -> None:
        self._parts: list[str] = _ONE_CHARACTER.findall(pattern)

    @property
    def start(self) -> Positions:
        """Where one is before any text."""
        return self._past_stars({0})

    def after(self, positions: Positions, text: str) -> Positions:
        """Where one may be after a text."""
        for character in text:
            positions = self._past_stars(
                place if self._parts[place] == "*" else place + 1
                for place in positions
                if place < len(self._parts) and fnmatch.fnmatchcase(character, self._parts[place])
            )
        return positions

    def after_any(self, positions: Positions, texts: Iterable[str]) -> Positions:
        """Where one may be after one of several texts."""
        return frozenset().union(*(self.after(positions, text) for text in texts))

    def after_some(self, positions: Positions, alphabet: str) -> Positions:
        """Where one may be after one or more characters of an alphabet."""
        found: Positions = frozenset()
        fresh = self.after_any(positions, alphabet)
        while fresh - found:
            found |= fresh
            fresh = self.after_any(found, alphabet)
        return found

    def ends(self, positions: Positions) -> bool:
        """Whether the pattern may end there."""
        return len(self._parts) in positions

    def after_number(self, positions: Positions) -> Positions:
        """Where one may be after a whole number of at least 1, without leading zeros."""
        first = self.after_any(positions, _DIGITS[1:])
        return first | self.after_some(first, _DIGITS)

    def _past_stars(self, places: Iterable[int]) -> Positions:
        """A star may stand for nothing."""
        found = set(places)
        for place in sorted(found):
            while place < len(self._parts) and self._parts[place] == "*":
                place += 1
                found.add(place)
        return frozenset(found)


def can_match_case(pattern: str, workloads: Mapping[str, int | None], *, any_workload: bool = False) -> bool:
    """Whether a pattern matches the id of some case of these workloads.

    Args:
        pattern: for case ids.
        workloads: by name, tokens an input; None without that dimension, 0 where nobody can say whether it has one.
        any_workload: there may be workloads beside these.
    """
    glob = Glob(pattern)
    for name, tokens in workloads.items():
        if _rest_matches(glob, glob.after(glob.start, name), tokens):
            return True
    return any_workload and _rest_matches(glob, glob.after_some(glob.start, _LETTERS + _DIGITS + "_."), 0)


def _rest_matches(glob: Glob, at: Positions, tokens: int | None) -> bool:
    """Whether the pattern goes on from there with backend, precision, shape, execution and state of the cache."""
    for field in (BackendName, Precision):
        at = glob.after_any(glob.after(at, "-"), field)
    at = _after_shape(glob, glob.after(at, "-"), tokens)
    at = glob.after_any(glob.after(at, "-"), Execution)
    return glob.ends(at | glob.after(at, f"-{L2.COLD}"))


def _after_shape(glob: Glob, at: Positions, tokens: int | None) -> Positions:
    without = glob.after_number(glob.after(at, "b"))
    if tokens is None:
        return without
    with_sequence = glob.after_number(glob.after(without, "s"))
    return with_sequence if tokens else without | with_sequence


def can_match_part(pattern: str) -> bool:
    """Whether a pattern without hyphens matches a backend, precision, shape, execution or state of the cache."""
    words = (*BackendName, *Precision, *Execution, L2.COLD)
    glob = Glob(pattern)
    return any(fnmatch.fnmatchcase(word, pattern) for word in words) or glob.ends(_after_shape(glob, glob.start, 0))


def can_match_runtime(pattern: str) -> bool:
    """Whether a pattern matches a runtime and some version of it, such as 'tensorrt_rtx 1.4.0.76'."""
    glob = Glob(pattern)
    return glob.ends(glob.after_some(glob.after_any(glob.start, (f"{name} " for name in RUNTIMES)), _VERSION))


def can_match_architecture(pattern: str) -> bool:
    """Whether a pattern matches 'cpu' or a compute capability such as 'sm_90'."""
    glob = Glob(pattern)
    return glob.ends(glob.after(glob.start, "cpu") | glob.after_number(glob.after(glob.start, "sm_")))


def _a_runtime(pattern: str) -> str:
    if not can_match_runtime(pattern):
        raise ValueError(
            f"no runtime is called so; write one of {', '.join(RUNTIMES)}, a space, and its version or '*'"
        )
    return pattern


def _an_architecture(pattern: str) -> str:
    if not can_match_architecture(pattern):
        raise ValueError("no architecture is called so; write 'cpu' or a compute capability such as 'sm_90'")
    return pattern


def _a_precision(pattern: str) -> str:
    if not any(fnmatch.fnmatchcase(precision, pattern) for precision in Precision):
        raise ValueError(f"no precision is called so; there are {', '.join(Precision)}")
    return pattern


Runtime = Annotated[str, AfterValidator(_a_runtime)]
Architecture = Annotated[str, AfterValidator(_an_architecture)]
PrecisionPattern = Annotated[str, AfterValidator(_a_precision)]
