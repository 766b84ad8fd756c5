"""``trtgate report``: stored runs as tables, markdown or a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from trtgate.commands.shared import add_policy, failures, load_run, policy_of
from trtgate.report import run_report
from trtgate.store import history
from trtgate.store.query import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one run, or several goes of one matrix")
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="draw trends of these runs in the HTML page")
    parser.add_argument("--markdown", metavar="FILE", help="tables for a README; '-' is standard output")
    parser.add_argument("--html", metavar="FILE", help="one self-contained page; '-' is standard output")
    parser.add_argument("--json", metavar="FILE", help="the records; '-' is standard output")
    add_policy(parser)


def run(args: argparse.Namespace) -> None:
    """Read the runs and write what was asked for.

    Raises:
        RecordError, StorageError: a run cannot be read, or a report not be written.
    """
    rules = policy_of(args.policy)
    runs = {str(path): load_run(path, rules) for path in args.runs}
    records = history.merge([run.records for run in runs.values()])
    names = list(runs) if len(runs) > 1 else ["This run"]
    notes = failures(dict(zip(names, runs.values(), strict=True)))
    past = (
        open_store(str(args.history), max_bytes=rules.store.max_file_bytes).series() if args.history is not None else ()
    )
    targets = {"markdown": args.markdown, "html": args.html, "json": args.json}
    run_report.write(records, rules, past, targets, notes)
