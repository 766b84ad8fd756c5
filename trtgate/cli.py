"""The command line: parses, calls the room of a command, and picks the exit code. Nobody else does."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from importlib import metadata
from pathlib import Path
from typing import TextIO

from trtgate import policy
from trtgate.commands.shared import add_policy, failures, load_run, policy_of
from trtgate.errors import (
    NothingComparedError,
    RecordError,
    StorageError,
    TrtgateError,
    TrtgateWarning,
    UnsupportedCaseError,
    UsageError,
)
from trtgate.judge.verdict import Decision, Verdict
from trtgate.policy.judge import JudgeSettings
from trtgate.report import outputs
from trtgate.report.sheet import Entry, Sheet
from trtgate.store import history


class ExitCode(IntEnum):
    """What ``trtgate`` returns to the shell. Only PASS is green."""

    PASS = 0
    """Everything was compared and nothing became worse; a command that compares nothing did its work."""
    REGRESSION = 1
    """Something became slower, bigger or wrong, vanished, or changed in a way that the policy does not let pass."""
    USAGE = 2
    """An argument, a file or a folder cannot be used, or a case is named that its backend does not do."""
    INCONCLUSIVE = 3
    """No regression was shown, and not everything could be shown to be free of one."""
    INVALID = 4
    """The machine cannot give a verdict or do the work: too disturbed, or a GPU or a package is missing."""
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
    if isinstance(error, UsageError | RecordError | StorageError | UnsupportedCaseError):
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
        with outputs.standard_output(), _plain_warnings():
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


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print trtgate's own warnings like its errors; Python would put a path and a line of source round them."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, TrtgateWarning):
                print(f"trtgate: {message}", file=sys.stderr)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


# Commands whose room has its own arguments: imported only when called, since some of these rooms import torch.
_ROOMS = {
    "doctor": ("trtgate.commands.doctor", "say what this machine has and lacks"),
    "gate": ("trtgate.commands.gate", "judge a change against its base, both live on this machine"),
    "inspect": ("trtgate.commands.inspect", "say what an engine is made of, or how two differ"),
    "bisect": ("trtgate.commands.bisect", "name the first layer whose error jumps"),
    "trend": ("trtgate.commands.trend", "find change points in the history and name their commits"),
    "report": ("trtgate.commands.report", "print stored runs as tables, markdown or a page"),
    "policy": ("trtgate.commands.policy", "print every threshold and tolerance with its meaning, as TOML"),
}


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    codes = ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode)
    parser = argparse.ArgumentParser(
        prog="trtgate",
        description="Is your TensorRT model still fast and still right?",
        epilog=f"Exit codes: {codes}.",
    )
    parser.add_argument("--version", action="version", version=f"trtgate {_version()}")
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


def _version() -> str:
    try:
        return metadata.version("trtgate")
    except metadata.PackageNotFoundError:
        return "of no release: a source tree that is not installed"


def _room_runner(run: Callable[[argparse.Namespace], object]) -> Callable[[argparse.Namespace], ExitCode]:
    """Turn a room's outcome, a word such as ``regression`` or nothing, into its code."""

    def runner(args: argparse.Namespace) -> ExitCode:
        outcome = run(args)
        return ExitCode.PASS if outcome is None else ExitCode[str(outcome).upper()]

    return runner


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", type=Path, metavar="BASE", help="a stored run, or a history folder for its baseline")
    parser.add_argument("head", type=Path, metavar="HEAD", help="the run that is judged")
    add_policy(parser)
    outputs.add_arguments(parser)


def _compare(args: argparse.Namespace) -> ExitCode:
    # They bring scipy, half a second that other commands need not wait.
    from trtgate.judge.baseline import compare_runs
    from trtgate.report.from_records import machine_of

    rules = policy_of(args.policy)
    head = load_run(args.head, rules)
    base = _baseline(args.base, head, rules) if args.base.is_dir() else load_run(args.base, rules)
    found = compare_runs(base.records, head.records, rules.judge)
    code = verdict_code((one.decision for one in found), rules.judge)
    sheet = Sheet(
        command="trtgate compare",
        base=f"{base.path.name} (commit {base.commit or 'unknown'})",
        head=f"{head.path.name} (commit {head.commit or 'unknown'})",
        outcome=code.name.lower(),
        entries=tuple(
            Entry(one.case, str(one.quantity), one.decision, one.decision.passes(rules.judge)) for one in found
        ),
        machine=machine_of(head.records),
        notes=(
            "Stored runs are one process a side: weaker evidence than 'trtgate gate', which runs both live.",
            *failures({"The base": base, "The head": head}),
        ),
    )
    outputs.write(sheet, args)
    return code


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
    add_policy(parser)


def _accept(args: argparse.Namespace) -> ExitCode:
    path = history.accept(args.run, args.reason, max_bytes=policy_of(args.policy).store.max_file_bytes)
    print(f"Accepted: {path} is the baseline of its machine, stack and cases from now on.")
    return ExitCode.PASS


_OWN = {
    "compare": ("judge one stored run against another", _add_compare, _compare),
    "accept": ("make a run the baseline, with a reason", _add_accept, _accept),
}
