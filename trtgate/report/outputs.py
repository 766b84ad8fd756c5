"""Where the forms of a comparison go: the options that commands share, and the writing itself."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from trtgate.errors import StorageError
from trtgate.report import junit, markdown, verdicts
from trtgate.report.sheet import Sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a command the options ``--markdown``, ``--junit`` and ``--json``."""
    group = parser.add_argument_group("output", "besides the table; '-' writes to standard output instead of it")
    group.add_argument("--markdown", metavar="FILE", help="for a pull-request comment or $GITHUB_STEP_SUMMARY")
    group.add_argument("--junit", metavar="FILE", help="JUnit XML with one failed test a regression")
    group.add_argument("--json", metavar="FILE", help="everything, for machines")


def write(sheet: Sheet, args: argparse.Namespace, console: Console | None = None) -> None:
    """Print a comparison and write the files that were asked for: all that can be, whatever happens to one.

    Args:
        sheet: what was compared.
        args: holds what `add_arguments` parsed.
        console: for the table.

    Raises:
        StorageError: the first form that could not be written; the others are. So it is with any other error, which is
            then a defect of that form.
    """
    forms: list[tuple[str | None, Callable[[Sheet], str]]] = [
        (args.markdown, markdown.comparison),
        (args.junit, junit.comparison),
        (args.json, _json),
    ]
    steps = [partial(_write, form, sheet, target) for target, form in forms if target is not None]
    if all(target != "-" for target, _ in forms):
        steps.insert(0, partial(_show, sheet, console))
    lost: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - raised below: what one form stumbles over must not cost the others
            lost.append(error)
    if lost:
        raise lost[0]


def _write(form: Callable[[Sheet], str], sheet: Sheet, target: str) -> None:
    emit(form(sheet), target)


def _show(sheet: Sheet, console: Console | None) -> None:
    with standard_output():
        verdicts.show(sheet, console)


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Say that the disk behind standard output is full; any other error is not this one's to explain.

    Raises:
        StorageError: it is full.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        # What is left in the buffer would fail once more at exit, with a traceback and a code of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StorageError(
            f"Standard output cannot be written: {error.strerror}.", "Send it where there is space."
        ) from None


def _json(sheet: Sheet) -> str:
    return json.dumps(sheet.to_json(), indent=2, allow_nan=False) + "\n"


def emit(text: str, target: str) -> None:
    """Write text to a file, or to standard output for ``-``; a CI's step summary is appended to.

    Raises:
        StorageError: the file cannot be written.
    """
    if target == "-":
        with standard_output():
            sys.stdout.write(text)
        return
    # A step summary is shared by the steps of a job: replacing it would wipe what others wrote.
    mode = "a" if target == os.environ.get("GITHUB_STEP_SUMMARY") else "w"
    try:
        with Path(target).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(
            f"The report {target} cannot be written: {error.strerror}.", "Name a file in a writable folder."
        ) from None
