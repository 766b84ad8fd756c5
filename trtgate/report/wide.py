"""Lines that are longer than a console: what may be folded, and what would then stand beside the wrong name."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from trtgate.report.figures import printable

_ANY = 10_000


@contextmanager
def at_least(console: Console, width: int) -> Iterator[None]:
    """Give a console so many columns for a while, should it have fewer."""
    before = console.width
    console.width = max(before, width)
    try:
        yield
    finally:
        console.width = before


def print_whole(console: Console, table: Table) -> None:
    """Print a table in lines as long as its cells need."""
    needed = console.measure(table, options=console.options.update(width=_ANY)).maximum
    with at_least(console, needed):
        console.print(table, crop=False)


def hanging(text: str, width: int, indent: str = "  ") -> str:
    """A paragraph whose further lines are indented, so that its beginning can be found; ids are never broken.

    Args:
        text: of one paragraph, from a record or not.
        width: columns.
        indent: of its first line; the others have four columns more.
    """
    return textwrap.fill(
        printable(text),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
