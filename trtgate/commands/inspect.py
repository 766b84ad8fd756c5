"""``trtgate inspect``: what an engine is made of, or how two engines differ, layer by layer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trtgate.artefacts import make_cache
from trtgate.case import Case, Precision
from trtgate.commands.shared import file_that_was_named, policy_of
from trtgate.errors import StorageError, UsageError
from trtgate.judge.census import compare_census_facts
from trtgate.measure import kept_census
from trtgate.measure.census import Census
from trtgate.measure.compute_share import facts
from trtgate.measure.difference import difference
from trtgate.measure.inspection import Inspected, census_from_build_log, census_from_json, inspect_plan, refuse_graph
from trtgate.precision.quantisation_report import skipped_sentence
from trtgate.report.figures import printable
from trtgate.report.layers import show_difference, show_facts, show_layers

if TYPE_CHECKING:
    from trtgate.policy import Policy

_LOGS = (".log", ".txt")
_TF32 = (
    "The engine may use TF32, and nothing here tells where it does: to the runtime TF32 is no datatype but a way to "
    "multiply float32."
)
_MOST_TEXT = 32 * 2**20  # of a JSON, or of one line of a log; parsed, it takes ten times as much. vit_b_16's has 0.2 MB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "target",
        metavar="PLAN|CASE",
        help="a serialised engine, an engine inspector's JSON (.json), a builder's verbose log (.log, .txt), a census "
        "(.census.json), or a case id",
    )
    parser.add_argument("--against", metavar="OTHER", help="print how PLAN|CASE differs from this one")
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE", help="what a plan, JSON or log was built from, to count work"
    )
    parser.add_argument("--layers", action="store_true", help="print every layer")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="time each layer in N inferences (GPU)")
    parser.add_argument("--json", action="store_true", help="print everything for machines")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="write the engine inspector's own JSON there (GPU)")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trtgate"), metavar="DIR", help="default: .trtgate")


def run(args: argparse.Namespace) -> None:
    """Inspect and print.

    Raises:
        TrtgateError: the target cannot be inspected; the message says why and what to do.
    """
    if args.profile < 0:
        raise UsageError(f"--profile is {args.profile}.", "Give the number of inferences, at least 1.")
    target = _inspect(args.target, args, raw=args.raw is not None)
    if args.raw is not None:
        _write_raw(args.raw, target, args.target)
    if args.against is None:
        _show(target, args)
        return
    other = _inspect(args.against, args)
    rows = [row.to_json() for row in difference(other.census, target.census, other.layer_ms, target.layer_ms)]
    worse = compare_census_facts(facts(other.census), facts(target.census))
    if args.json:
        print(json.dumps({"against": args.against, "target": args.target, "layers": rows, "worse": worse}, indent=1))
    else:
        show_difference(rows, worse, (args.against, args.target))


def _inspect(target: str, args: argparse.Namespace, *, raw: bool = False) -> Inspected:
    path = Path(target)
    if not path.is_file():
        if not _is_case_id(target):
            raise UsageError(
                f"'{target}' is neither a file nor a case id.",
                "Name a plan file, or a case such as resnet18-tensorrt_engine-fp16-b8-graph.",
            )
        return _inspect_case(target, args, raw=raw)
    if args.profile:
        raise UsageError(
            f"--profile needs inputs, and {path} is a file.", "Profile the case that it was built for instead."
        )
    with file_that_was_named():
        return _inspect_file(path, args.onnx)


def _inspect_file(path: Path, onnx_path: Path | None) -> Inspected:
    if path.name.endswith(".census.json"):
        found = Census.load(path)
        refuse_graph(onnx_path, found, path)
        return Inspected(found)
    if path.suffix == ".json":
        text = _text(path)
        return Inspected(census_from_json(text, onnx_path), text)
    if path.suffix in _LOGS:
        return Inspected(_census_of_log(path, onnx_path))
    return Inspected(inspect_plan(path, onnx_path))


def _is_case_id(text: str) -> bool:
    """Whether a text has the form of a case id; its names may still be unknown."""
    try:
        Case.parse(text)
    except UsageError:
        # Five fields with a name that does not exist are a misspelt case, not a missing file.
        return text.count("-") >= 4 and "/" not in text
    return True


def _inspect_case(target: str, args: argparse.Namespace, *, raw: bool) -> Inspected:
    case = Case.parse(target)
    if args.onnx is not None:
        raise UsageError(
            f"--onnx names {args.onnx}, and {target} is a case, whose graph is exported here.", "Leave --onnx out."
        )
    settings = policy_of(None)
    kept = None if args.profile else kept_census.recall(case, args.cache_dir, settings.calibration)
    # Only an engine that is loaded prints the inspector's JSON; a builder's log has none, however often it is asked.
    if kept is not None and not (raw and kept.census.origin == "inspector"):
        return kept
    found = _inspect_anew(case, args, settings)
    kept_census.keep(case, args.cache_dir, settings.calibration, found)
    return found


def _inspect_anew(case: Case, args: argparse.Namespace, settings: Policy) -> Inspected:
    # Only here: these import torch.
    from trtgate.measure.inspect_case import inspect_case
    from trtgate.measure.optimisation_run import inspect_micro, micro_of
    from trtgate.measure.workplace import build_context, workload_of

    context = build_context(make_cache(args.cache_dir), settings)
    micro = micro_of(case)
    if micro is None:
        case, workload = workload_of(case.id, args.cache_dir)
        return inspect_case(workload, case, context, profile_repeats=args.profile)
    if args.profile:
        raise UsageError(
            f"--profile is {args.profile}, and the micro model '{micro.name}' is never run.", "Leave --profile out."
        )
    return inspect_micro(micro, case, context)


def _census_of_log(path: Path, onnx_path: Path | None) -> Census:
    try:
        # Line by line, since a verbose log is large; and only at line feeds, since metadata holds other separators.
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
            return census_from_build_log(_lines(file, path), onnx_path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).", "Name a builder's verbose log.") from None


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(_MOST_TEXT):
        if len(line) == _MOST_TEXT and not line.endswith("\n"):
            raise UsageError(
                f"{path} has a line of more than {_MOST_TEXT >> 20} million characters.",
                "Name a builder's verbose log.",
            )
        yield line.rstrip("\r\n")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise UsageError(
                f"{path} has {path.stat().st_size >> 20} MiB; an engine inspector's JSON has at most a few.",
                "Name the engine inspector's JSON.",
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text ({error}).", "Name the engine inspector's JSON.") from None


def _write_raw(path: Path, inspected: Inspected, name: str) -> None:
    if inspected.raw is None:
        raise UsageError(
            f"There is no inspector's JSON of {name} here: no engine was loaded.",
            "Inspect the case on a machine with a GPU.",
        )
    try:
        path.write_text(inspected.raw, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}).", "Name a writable file.") from None


def _show(target: Inspected, args: argparse.Namespace) -> None:
    found: dict[str, Any] = facts(target.census)
    if target.coverage is not None:
        found["coverage"] = target.coverage
    tf32 = not Path(args.target).is_file() and Case.parse(args.target).precision is Precision.TF32
    if tf32:
        found["note"] = _TF32
    if target.skipped:
        found["skipped"] = list(target.skipped)
    if args.json:
        census = target.census.model_dump(mode="json", exclude_defaults=True)
        told = {"facts": found, "census": census, "layer_ms": target.layer_ms, "recalled": target.recalled}
        print(json.dumps(told, indent=1))
        return
    show_facts(found, args.target)
    if tf32:
        print(_TF32)
    if target.skipped:
        print(printable(skipped_sentence(target.skipped)))
    if args.layers or args.profile:
        show_layers([_row(layer, target.layer_ms) for layer in target.census.layers])


def _row(layer: Any, layer_ms: dict[str, float]) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "reads": "+".join(sorted({str(use.datatype) for use in layer.inputs})),
        "writes": "+".join(sorted({str(use.datatype) for use in layer.outputs})),
        "sources": list(layer.sources),
        "tactic": layer.tactic or "",
        "ms": layer_ms.get(layer.name),
    }
