"""``trtgate report``: stored runs as tables, markdown or a page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from trtgate.commands.shared import add_policy, failures, load_run, policy_of
from trtgate.policy import Policy
from trtgate.report import run_report
from trtgate.store import history
from trtgate.store.journal import SUFFIX
from trtgate.store.query import open_store
from trtgate.store.unfinished import UnfinishedRun, load_unfinished

_RUNS = "one run, or several goes of one matrix; of a run that did not end, its journal (.jsonl)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=_RUNS)
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="draw trends of these runs in the HTML page")
    parser.add_argument("--markdown", metavar="FILE", help="tables for a README; '-' is standard output")
    parser.add_argument("--html", metavar="FILE", help="one self-contained page; '-' is standard output")
    parser.add_argument("--json", metavar="FILE", help="the records; '-' is standard output")
    add_policy(parser)


def run(args: argparse.Namespace) -> None:
    """Read the runs and write what was asked for.

    Raises:
        RecordError, StorageError: a run or a journal cannot be read, or a report not be written.
    """
    rules = policy_of(args.policy)
    found = {str(path): _read(path, rules) for path in args.runs}
    records = history.merge([one.records for one in found.values()])
    past = (
        open_store(str(args.history), max_bytes=rules.store.max_file_bytes).series() if args.history is not None else ()
    )
    targets = {"markdown": args.markdown, "html": args.html, "json": args.json}
    run_report.write(records, rules, past, targets, _notes(found))


def _read(path: Path, rules: Policy) -> history.Run | UnfinishedRun:
    if path.suffix == SUFFIX and not path.is_dir():
        return load_unfinished(path, max_bytes=rules.store.max_file_bytes)
    return load_run(path, rules)


def _notes(found: Mapping[str, history.Run | UnfinishedRun]) -> list[str]:
    """A sentence for every run whose rows may look as if it had passed: it failed, or there is but its journal."""
    notes: list[str] = []
    for name, one in found.items():
        alone = len(found) == 1
        if isinstance(one, history.Run):
            notes += failures({"This run" if alone else name: one})
        else:
            notes.append(f"{'This' if alone else name} {_of_a_journal(one)}")
    return notes


def _of_a_journal(one: UnfinishedRun) -> str:
    ended = "that did not end" if one.cut_off else "and does not say whether it ended"
    rows = "1 row" if len(one.records) == 1 else f"{len(one.records)} rows"
    return (
        f"is the journal of a run {ended}: {rows}, the first of {one.begun_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"commit {one.commit[:12] if one.commit else 'unknown'}."
    )
