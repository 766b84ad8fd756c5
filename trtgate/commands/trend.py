"""``trtgate trend``: change points in the history, with their commits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trtgate.case import Case, Quantity
from trtgate.commands.shared import add_policy, policy_of
from trtgate.errors import UnknownValueError, UsageError
from trtgate.report import stored, trends
from trtgate.store import history
from trtgate.store.query import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("case", nargs="?", metavar="CASE", help="only this case")
    parser.add_argument("--quantity", help="only this quantity, such as device")
    parser.add_argument(
        "--store", default="results", help="history folder, Parquet folder or postgresql:// URL (default: results)"
    )
    parser.add_argument("--ingest", type=Path, metavar="FOLDER", help="first add the runs of this folder to the store")
    parser.add_argument("--summary", action="store_true", help="only say what is stored")
    parser.add_argument("--json", metavar="FILE", help="for machines; '-' is standard output")
    parser.add_argument("--markdown", metavar="FILE", help="for an issue or a step summary; '-' is standard output")
    add_policy(parser)


def run(args: argparse.Namespace) -> None:
    """Search and print.

    Raises:
        UsageError: no such case, quantity or store.
        RecordError, StorageError: the store cannot be read or written.
    """
    rules = policy_of(args.policy)
    limit = rules.store.max_file_bytes
    if args.case is not None:
        Case.parse(args.case)
    if args.quantity not in (None, *Quantity):
        raise UnknownValueError("quantity", args.quantity, list(Quantity))
    store = open_store(args.store, max_bytes=limit, create=args.ingest is not None)
    if args.ingest is not None:
        added = store.ingest(history.load_run(path, max_bytes=limit) for path in history.run_paths(args.ingest))
        print(f"Added {added:,} records to the store.", file=sys.stderr)
    if args.summary:
        stored.write(store.summary(), json_target=args.json, markdown_target=args.markdown)
        return
    found = trends.search(store.series(args.case, args.quantity), rules.judge.trend)
    if args.case is not None and not found.histories:
        raise UsageError(f"The store has no history of '{args.case}'.", "Name a case that 'trtgate trend' lists.")
    trends.write(found, json_target=args.json, markdown_target=args.markdown)
