"""What several commands share: the policy that they go by, and the stored runs that they name."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from trtgate import policy
from trtgate.errors import InspectionError, PlanError, UsageError
from trtgate.store import history
from trtgate.workloads import project, registry
from trtgate.workloads.possible_rules import require_possible


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Declare ``--policy``."""
    parser.add_argument("--policy", type=Path, metavar="FILE", help="instead of the nearest trtgate.toml")


def policy_of(named: Path | None) -> policy.Policy:
    """The policy of a file, else of the project's trtgate.toml, else the defaults; torch is not imported for it.

    Raises:
        PolicyError: it cannot be read, or holds a rule that no case can meet.
    """
    path = named or project.find_policy(Path.cwd())
    found = policy.load(path)
    require_possible(found, path or policy.FILE_NAME, registry.known_without_importing(path))
    return found


def load_run(path: Path, rules: policy.Policy) -> history.Run:
    """A stored run, by its file or by what `history.resolve` takes for one.

    Raises:
        RecordError, StorageError: there is none, or it is damaged.
    """
    limit = rules.store.max_file_bytes
    return history.load_run(history.resolve(path, max_bytes=limit), max_bytes=limit)


def failures(runs: Mapping[str, history.Run]) -> tuple[str, ...]:
    """A sentence for every run that did not pass when it was recorded: its rows alone may look as if it had.

    Args:
        runs: by what the sentence is to call them.
    """
    return tuple(
        f"{name} did not pass when it was recorded: {run.reason or 'no reason is stored.'}"
        for name, run in runs.items()
        if run.status is history.RunStatus.FAILED
    )


@contextlib.contextmanager
def file_that_was_named() -> Iterator[None]:
    """While a file is read that the user named: that it is no engine, log or model is a wrong argument.

    Raises:
        UsageError: in place of what says so of an engine that a command has built itself.
    """
    try:
        yield
    except (InspectionError, PlanError) as error:
        raise UsageError(error.problem, error.fix) from None


def say(text: str) -> None:
    """What a command is doing, on the standard error: rewritten on a terminal, a line elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def say_last(text: str) -> None:
    """The last of what a command was doing; it stays on a terminal, and what follows begins a line."""
    say(text)
    if sys.stderr.isatty():
        print(file=sys.stderr, flush=True)
