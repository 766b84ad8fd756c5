"""``trtgate gate BASE [HEAD]``: arguments, set-up and clean-up of one gate."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from trtgate import policy as policies
from trtgate.artefacts import make_cache
from trtgate.case import Case, Quantity
from trtgate.commands.shared import say
from trtgate.errors import EnvironmentInvalidError, NothingComparedError, StorageError, UnknownValueError, UsageError
from trtgate.gate import plan, sides
from trtgate.gate.folder import TREES, gate_folder
from trtgate.gate.gpu_lock import whole_gpu
from trtgate.gate.outcome import GateOutcome
from trtgate.gate.samples import SampleFile
from trtgate.gate.session import Session
from trtgate.gate.sides import Side, SideError
from trtgate.gate.station import Station
from trtgate.policy import Policy
from trtgate.report import outputs
from trtgate.report.sheet import Sheet

_JUDGED = tuple(quantity for quantity in Quantity if quantity is not Quantity.THROUGHPUT)
_SIDE = "a git ref, a folder (path:FOLDER), or an installed environment (env:FOLDER)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what ``trtgate gate`` takes."""
    parser.add_argument("base", metavar="BASE", help=f"the yardstick: {_SIDE}")
    parser.add_argument("head", metavar="HEAD", nargs="?", help="what is judged, likewise; without it the working tree")
    parser.add_argument("--case", metavar="ID", action="append", default=[], help="only this case; repeatable")
    parser.add_argument(
        "--quantity",
        metavar="NAME",
        action="append",
        default=[],
        help=f"judge this quantity; repeatable: {', '.join(_JUDGED)}",
    )
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where both sides compute")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="instead of the base's trtgate.toml")
    parser.add_argument(
        "--cache", type=Path, default=Path(".trtgate"), metavar="FOLDER", help="weights, checkouts, logs"
    )
    parser.add_argument("--samples", type=Path, metavar="FILE", help="add the raw samples to this file, as JSON lines")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the turns")
    outputs.add_arguments(parser)


def run(args: argparse.Namespace) -> GateOutcome:
    """Judge one side against the other and report.

    Raises:
        UsageError: a ref, folder, case or quantity does not exist.
        SideError: the base cannot be set up or imported.
        NothingComparedError: no case runs on either side.
        EnvironmentInvalidError: the sides see different machines, or another gate keeps the GPU.
        StorageError: the cache cannot be written; or samples or a report, where the gate would pass.
    """
    try:
        return _judge(args)
    except NothingComparedError as error:
        _tell_why_nothing_was_compared(error, args)
        raise


def _judge(args: argparse.Namespace) -> GateOutcome:
    here = Path.cwd()
    cache = args.cache.absolute()
    for text in args.case:
        Case.parse(text)
    wanted = [_quantity(text) for text in args.quantity]
    make_cache(cache)
    with gate_folder(cache) as scratch:
        base = sides.resolve(args.base, plan.BASE, scratch / TREES, here)
        head = sides.resolve(args.head, plan.HEAD, scratch / TREES, here)
        if alike := sides.same_code(base, head):
            say(alike)  # before the minutes that it takes
        policy, head_policy = _policies(args.policy, base, head, here)
        _set_up((base, head), policy.gate.setup)
        device = _device() if args.device == "auto" else args.device
        session = Session(
            base=base,
            head=head,
            policy=policy,
            quantities=plan.quantities_of(policy.gate, wanted, device),
            wanted=plan.Wanted(policy.gate, head_policy, device, tuple(args.case)),
            station=Station.of(
                policy,
                device,
                scratch,
                shared=cache,
                logs=cache / "gate_logs" / scratch.name,
                crews=policy.gate.crews_at_once,
            ),
            say=say,
            asked=frozenset(args.case or (*policy.gate.cases, *head_policy.gate.cases)),
            samples=SampleFile.added_to(args.samples.absolute()) if args.samples else None,
            seed=args.seed,
        )
        with whole_gpu(_gpu(device), say):
            result = session.run()
    outcome = result.outcome(policy.judge)
    lost = session.samples_lost
    try:
        outputs.write(result.sheet(policy.judge), args)
    except StorageError as error:
        lost = error
    if lost is not None:
        if outcome is GateOutcome.PASS:
            raise lost  # what was asked for is not all there: that is no pass
        print(f"trtgate: {lost}", file=sys.stderr)  # the verdict counts for more than a file
    return outcome


def _tell_why_nothing_was_compared(error: NothingComparedError, args: argparse.Namespace) -> None:
    """Write the reports that were asked for: without them a comment would go on telling of an earlier commit."""
    sheet = Sheet(
        command="trtgate gate",
        base=args.base,
        head=args.head or sides.WORKING_TREE,
        outcome=GateOutcome.NOTHING_COMPARED.value,
        entries=(),
        notes=(str(error),),
    )
    try:
        outputs.write(sheet, args, Console(quiet=True))  # in a terminal the error itself is what is shown
    except StorageError as lost:
        print(f"trtgate: {lost}", file=sys.stderr)


def _quantity(text: str) -> Quantity:
    if text not in _JUDGED:
        raise UnknownValueError("quantity", text, _JUDGED)
    return Quantity(text)


def _policies(named: Path | None, base: Side, head: Side, here: Path) -> tuple[Policy, Policy]:
    """The policy that judges, and the head's own.

    The base's judges, because a change must not loosen the margins that it is held to. The head's is read for its list
    of cases, and for rules that name nothing. A side without a trtgate.toml goes by the one that is nearest to the
    current folder, and the base by the defaults where that one is the head's: it came with the change.
    """
    if named is not None:
        policy = policies.load(named)
        return policy, policy
    nearest = policies.find(here)
    of_base, of_head = (_own_policy(side) for side in (base, head))
    brought = nearest is not None and head.tree is not None and nearest.resolve().is_relative_to(head.tree.resolve())
    return policies.load(of_base or (None if brought else nearest)), policies.load(of_head or nearest)


def _own_policy(side: Side) -> Path | None:
    path = side.tree / policies.FILE_NAME if side.tree else None
    return path if path and path.is_file() else None


def _set_up(both: Iterable[Side], command: Sequence[str]) -> None:
    """Run the policy's set-up command in each side's tree.

    Raises:
        SideError: it failed; its last line is quoted.
    """
    for side in both:
        if not command or side.tree is None:
            continue
        try:
            done = subprocess.run(  # noqa: S603 - the base's own policy names it; no shell
                command, cwd=side.tree, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UsageError(
                f"The set-up command '{command[0]}' cannot be run ({error.strerror}).", "Correct [gate] setup."
            ) from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no output"])[-1]
            raise SideError(
                f"'{' '.join(command)}' failed with exit code {done.returncode} on the {side.label} side: {last}.",
                f"Make it work in {side.tree}.",
            )


def _gpu(device: str) -> str | None:
    from trtgate.measure.device import gpu_uuid

    return gpu_uuid() if device == "cuda" else None


def _device() -> str:
    from trtgate.backends.gpu_files import gpu_possible
    from trtgate.measure.device import cuda_problem

    problem = cuda_problem()
    if problem is None:
        return "cuda"
    # To go on with other cases, on the CPU, would let pass what nobody has measured.
    if gpu_possible():
        raise EnvironmentInvalidError(
            f"There may be a GPU here, and it cannot be used: {problem}",
            "Mend that, or gate on the CPU with '--device cpu'.",
        )
    return "cpu"
