"""The command line: parses, calls the room of a command, and picks the exit code. Nobody else does."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from pathlib import Path

from trtgate import policy
from trtgate.case import Case, Quantity
from trtgate.errors import NothingComparedError, RecordError, StorageError, TrtgateError, UnknownValueError, UsageError
from trtgate.judge.baseline import compare_runs
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings
from trtgate.report import findings, outputs, run_report, trends
from trtgate.report.sheet import Entry, Sheet
from trtgate.store import history
from trtgate.store.query import open_store


class ExitCode(IntEnum):
    """What ``trtgate`` returns to the shell. Only PASS is green."""

    PASS = 0
    """Everything was compared and nothing became worse; a command that compares nothing did its work."""
    REGRESSION = 1
    """Something became slower, bigger or wrong, vanished, or changed in a way that the policy does not let pass."""
    USAGE = 2
    """An argument, a file or a folder cannot be used."""
    INCONCLUSIVE = 3
    """No regression was shown, and not everything could be shown to be free of one."""
    INVALID = 4
    """The machine cannot give a verdict: too disturbed, or a part is missing."""
    NOTHING_COMPARED = 5
    """Not one case stood side by side with another, which is never a pass."""
    INTERNAL = 70
    """A defect of trtgate itself; Python's own code for it, 1, would read as a regression."""
    INTERRUPTED = 130
    """Ctrl-C."""
    BROKEN_PIPE = 141
    """The reader of the output went away."""


def verdict_code(decisions: Iterable[Decision], settings: JudgeSettings) -> ExitCode:
    """The exit code of a list of decisions; the worst of them speaks.

    Args:
        decisions: every judged quantity of every case.
        settings: which verdicts pass.
    """
    kept = list(decisions)
    verdicts = {decision.verdict for decision in kept}
    blocked = {decision.verdict for decision in kept if not decision.passes(settings)}
    if blocked & {Verdict.SLOWER, Verdict.MISSING, Verdict.FASTER}:
        return ExitCode.REGRESSION
    if Verdict.INVALID in verdicts:
        return ExitCode.INVALID
    if not any(verdict.compared for verdict in verdicts):
        return ExitCode.NOTHING_COMPARED
    return ExitCode.INCONCLUSIVE if blocked else ExitCode.PASS


def error_code(error: TrtgateError) -> ExitCode:
    """The exit code of an error that ended a command."""
    if isinstance(error, UsageError | RecordError | StorageError):
        return ExitCode.USAGE
    if isinstance(error, NothingComparedError):
        return ExitCode.NOTHING_COMPARED
    # Absent backends, failed builds, disturbed machines: no verdict could be reached here.
    return ExitCode.INVALID


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        An `ExitCode`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments).parse_args(arguments)
        with outputs.standard_output():
            code = args.handler(args)
    except TrtgateError as error:
        print(f"trtgate: {error}", file=sys.stderr)
        code = error_code(error)
    except KeyboardInterrupt:
        print("trtgate: interrupted; what was finished is in the journal.", file=sys.stderr)
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The interpreter would complain once more when it flushes at exit: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.BROKEN_PIPE
    except Exception:  # noqa: BLE001 - Python would exit with 1, which a pipeline would read as a regression
        traceback.print_exc()
        print("trtgate: this is a defect of trtgate; please report the lines above.", file=sys.stderr)
        code = ExitCode.INTERNAL
    return int(code)


# Commands whose room has its own arguments: imported only when called, since these rooms import torch.
_ROOMS = {
    "gate": ("trtgate.commands.gate", "judge a change against its base, both live on this machine"),
    "inspect": ("trtgate.commands.inspect", "say what an engine is made of, or how two differ"),
    "bisect": ("trtgate.commands.bisect", "name the first layer whose error jumps"),
}


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    codes = ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode)
    parser = argparse.ArgumentParser(
        prog="trtgate",
        description="Is your TensorRT model still fast and still right?",
        epilog=f"Exit codes: {codes}.",
    )
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (room, summary) in _ROOMS.items():
        command = commands.add_parser(name, help=summary, description=f"{name}: {summary}.")
        if name == chosen:
            module = importlib.import_module(room)
            module.add_arguments(command)
            command.set_defaults(handler=_room_runner(module.run))
    for name, (summary, add, run) in _OWN.items():
        command = commands.add_parser(name, help=summary, description=f"{name}: {summary}.")
        add(command)
        command.set_defaults(handler=run)
    return parser


def _room_runner(run: Callable[[argparse.Namespace], object]) -> Callable[[argparse.Namespace], ExitCode]:
    """Turn a room's outcome, a word such as ``regression`` or nothing, into its code."""

    def runner(args: argparse.Namespace) -> ExitCode:
        outcome = run(args)
        return ExitCode.PASS if outcome is None else ExitCode[str(outcome).upper()]

    return runner


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", type=Path, metavar="FILE", help="instead of the nearest trtgate.toml")


def _policy(args: argparse.Namespace) -> policy.Policy:
    return policy.load(args.policy or policy.find(Path.cwd()))


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--require", metavar="BACKEND", action="append", default=[], help="exit with 4 where it is absent"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="must be writable")
    parser.add_argument("--json", action="store_true", help="print everything for machines")


def _doctor(args: argparse.Namespace) -> ExitCode:
    from trtgate.measure import doctor

    found = doctor.examine(args.results)
    if args.json:
        print(json.dumps([finding.to_json() for finding in found], indent=2))
    else:
        findings.show(found)
    doctor.require(found, args.require)
    return ExitCode.PASS


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", type=Path, metavar="BASE", help="a stored run, or a history folder for its baseline")
    parser.add_argument("head", type=Path, metavar="HEAD", help="the run that is judged")
    _add_policy(parser)
    outputs.add_arguments(parser)


def _compare(args: argparse.Namespace) -> ExitCode:
    rules = _policy(args)
    head = _load(args.head, rules)
    base = _baseline(args.base, head, rules) if args.base.is_dir() else _load(args.base, rules)
    found = compare_runs(base.records, head.records, rules.judge)
    code = verdict_code((one.decision for one in found), rules.judge)
    notes = ["Stored runs are one process a side: weaker evidence than 'trtgate gate', which runs both live."]
    if base.status == "failed":
        notes.append(f"The base did not pass when it was recorded: {base.reason or 'no reason is stored'}")
    sheet = Sheet(
        command="trtgate compare",
        base=f"{base.path.name} (commit {base.commit or 'unknown'})",
        head=f"{head.path.name} (commit {head.commit or 'unknown'})",
        outcome=code.name.lower(),
        entries=tuple(
            Entry(one.case, str(one.quantity), one.decision, one.decision.passes(rules.judge)) for one in found
        ),
        machine=run_report.machine_of(head.records),
        notes=tuple(notes),
    )
    outputs.write(sheet, args)
    return code


def _load(path: Path, rules: policy.Policy) -> history.Run:
    limit = rules.store.max_file_bytes
    return history.load_run(history.resolve(path, max_bytes=limit), max_bytes=limit)


def _baseline(folder: Path, head: history.Run, rules: policy.Policy) -> history.Run:
    limit = rules.store.max_file_bytes
    path = history.find_baseline(folder, head.identity, cases=head.cases, max_bytes=limit)
    if path is None:
        raise NothingComparedError(
            f"{folder} holds no baseline of the machine, the stack and the cases of {head.path.name}.",
            "Name a run, or accept one: trtgate accept RUN --reason '...'.",
        )
    return history.load_run(path, max_bytes=limit)


def _add_accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a stored run, also one in rejected/")
    parser.add_argument("--reason", required=True, help="why it is to be the baseline; kept in the run")
    _add_policy(parser)


def _accept(args: argparse.Namespace) -> ExitCode:
    path = history.accept(args.run, args.reason, max_bytes=_policy(args).store.max_file_bytes)
    print(f"Accepted: {path} is the baseline of its machine, stack and cases from now on.")
    return ExitCode.PASS


def _add_trend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("case", nargs="?", metavar="CASE", help="only this case")
    parser.add_argument("--quantity", help="only this quantity, such as device")
    parser.add_argument(
        "--store", default="results", help="history folder, Parquet folder or postgresql:// URL (default: results)"
    )
    parser.add_argument("--ingest", type=Path, metavar="FOLDER", help="first add the runs of this folder to the store")
    parser.add_argument("--summary", action="store_true", help="only say what is stored")
    parser.add_argument("--json", metavar="FILE", help="for machines; '-' is standard output")
    parser.add_argument("--markdown", metavar="FILE", help="for an issue or a step summary; '-' is standard output")
    _add_policy(parser)


def _trend(args: argparse.Namespace) -> ExitCode:
    rules = _policy(args)
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
        trends.show_summary(store.summary())
        return ExitCode.PASS
    found = trends.search(store.series(args.case, args.quantity), rules.judge.trend)
    if args.case is not None and not found.histories:
        raise UsageError(f"The store has no history of '{args.case}'.", "Name a case that 'trtgate trend' lists.")
    trends.write(found, json_target=args.json, markdown_target=args.markdown)
    return ExitCode.PASS


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one run, or several goes of one matrix")
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="draw trends of these runs in the HTML page")
    parser.add_argument("--markdown", metavar="FILE", help="tables for a README; '-' is standard output")
    parser.add_argument("--html", metavar="FILE", help="one self-contained page; '-' is standard output")
    parser.add_argument("--json", metavar="FILE", help="the records; '-' is standard output")
    _add_policy(parser)


def _report(args: argparse.Namespace) -> ExitCode:
    rules = _policy(args)
    records = history.merge([_load(path, rules).records for path in args.runs])
    past = (
        open_store(str(args.history), max_bytes=rules.store.max_file_bytes).series() if args.history is not None else ()
    )
    targets = {"markdown": args.markdown, "html": args.html, "json": args.json}
    run_report.write(records, rules, past, targets)
    return ExitCode.PASS


_OWN = {
    "doctor": ("say what this machine has and lacks", _add_doctor, _doctor),
    "compare": ("judge one stored run against another", _add_compare, _compare),
    "accept": ("make a run the baseline, with a reason", _add_accept, _accept),
    "trend": ("find change points in the history and name their commits", _add_trend, _trend),
    "report": ("print stored runs as tables, markdown or a page", _add_report, _report),
}
