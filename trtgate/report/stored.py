"""What a store holds, a stack at a time: terminal, markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Protocol

from rich.console import Console
from rich.text import Text

from trtgate.report import markdown, outputs

_COUNTS = ("records", "measured", "cases", "commits")
_FIELDS = ("stack", *_COUNTS, "first", "last")


class Stored(Protocol):
    """What is stored of one stack, such as `trtgate.store.points.StackSummary`."""

    @property
    def stack(self) -> str:
        """History folder name of the machine and stack."""

    @property
    def records(self) -> int:
        """All records."""

    @property
    def measured(self) -> int:
        """Those that carry samples."""

    @property
    def cases(self) -> int:
        """Distinct case ids."""

    @property
    def commits(self) -> int:
        """Distinct commits."""

    @property
    def first(self) -> str:
        """Oldest record's time, ISO 8601."""

    @property
    def last(self) -> str:
        """Newest record's time, ISO 8601."""


def write(stacks: Sequence[Stored], *, json_target: str | None, markdown_target: str | None) -> None:
    """Print what is stored and write the files that were asked for; ``-`` is standard output.

    Raises:
        StorageError: a file cannot be written.
    """
    if "-" not in (json_target, markdown_target):
        _show(stacks)
    if json_target is not None:
        listed = [{name: getattr(one, name) for name in _FIELDS} for one in stacks]
        outputs.emit(json.dumps({"schema_version": 1, "stacks": listed}, indent=2) + "\n", json_target)
    if markdown_target is not None:
        outputs.emit("\n".join(markdown.table(_FIELDS, map(_cells, stacks))) + "\n", markdown_target)


def _show(stacks: Iterable[Stored]) -> None:
    console = Console()
    for one in stacks:
        counts = ", ".join(f"{getattr(one, name):,} {name}" for name in _COUNTS)
        console.print(Text(one.stack, style="bold"))
        console.print(Text(f"  {counts}, from {one.first[:10]} to {one.last[:10]}"))


def _cells(one: Stored) -> list[str]:
    counts = [f"{getattr(one, name):,}" for name in _COUNTS]
    return [markdown.code(one.stack), *counts, markdown.escape(one.first), markdown.escape(one.last)]
