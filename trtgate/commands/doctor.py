"""``trtgate doctor``: what this machine has and lacks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from trtgate.measure import doctor
from trtgate.report import findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--require", metavar="BACKEND", action="append", default=[], help="exit with 4 where it is absent"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="must be writable")
    parser.add_argument("--json", action="store_true", help="print everything for machines")


def run(args: argparse.Namespace) -> None:
    """Look and print.

    Raises:
        BackendAbsentError: a required backend is not here.
        UnknownValueError: there is no such backend.
    """
    found = doctor.examine(args.results)
    if args.json:
        print(json.dumps([finding.to_json() for finding in found], indent=2))
    else:
        findings.show(found)
    doctor.require(found, args.require)
