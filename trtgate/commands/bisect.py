"""``trtgate bisect``: name the first layer whose error jumps, with the ranges and datatypes of what it reads."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from trtgate.artefacts import make_cache
from trtgate.backends.onnxruntime_intermediates import OnnxRuntimeTensors
from trtgate.backends.trt_debug import TensorRTTensors
from trtgate.case import BackendName, Case, Precision
from trtgate.commands.shared import add_policy, file_that_was_named, policy_of
from trtgate.errors import UnsupportedCaseError, UsageError
from trtgate.measure.bisect import Bisection, TensorError, Tensors, bisect
from trtgate.measure.bisect_target import Target, target_of_case, target_of_file
from trtgate.measure.float32_model import float32_twin
from trtgate.precision.tf32 import scope

if TYPE_CHECKING:
    from trtgate.measure.bisect import Culprit
    from trtgate.policy import Policy
    from trtgate.record import Parity

_SHOWING = (BackendName.TENSORRT_ENGINE, BackendName.ONNXRUNTIME)
_DISTURBANCE = (
    "A tensor that is shown is not fused away, so what was compared may differ from the engine that parity judged."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="CASE|FILE.onnx", help="a case id, or an ONNX file with static shapes")
    parser.add_argument(
        "--backend", default="tensorrt_engine", help="for a file: tensorrt_engine (default) or onnxruntime"
    )
    parser.add_argument("--precision", default="fp16", help="for a file: what it is written in; default: fp16")
    parser.add_argument("--seed", type=int, help="which seeded batch; default: those of parity, until one is wrong")
    parser.add_argument(
        "--limit",
        type=float,
        help="relative L2 error of a tensor that is still right; default: half of what parity allows the outputs, at "
        "most ten times the precision's floor",
    )
    parser.add_argument("--at-once", type=int, default=16, metavar="N", help="tensors shown in one run; default: 16")
    parser.add_argument(
        "--show",
        choices=("auto", "debug", "outputs"),
        default="auto",
        help="how TensorRT shows tensors; auto: debug tensors where the runtime has them, else added outputs",
    )
    add_policy(parser)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trtgate"), metavar="DIR", help="default: .trtgate")
    parser.add_argument("--json", action="store_true", help="print everything for machines")


def run(args: argparse.Namespace) -> str | None:
    """Search and print.

    Returns:
        ``regression`` where a tensor is wrong; ``inconclusive`` where none is, and parity fails or cannot judge the
        case; else None.

    Raises:
        TrtgateError: the case cannot be bisected here; the message says why and what to do.
    """
    if args.at_once < 1 or (args.limit is not None and not 0 < args.limit < math.inf):
        raise UsageError(
            f"--at-once is {args.at_once} and --limit is {args.limit}.", "Give a whole number and a limit above 0."
        )
    settings = policy_of(args.policy)
    target = _target(args, settings)
    limit = args.limit or target.limit
    seeds = range(settings.parity.batches) if args.seed is None else (args.seed,)
    model = onnx.load(target.path)
    found: dict[int, Bisection] = {}
    notes: dict[str, None] = {}
    for seed in seeds:
        found[seed], note = _search(args, target, model, limit, seed)
        notes |= {note: None} if note else {}
        if found[seed].culprit is not None:
            break
    for note in notes:
        print(f"{note} Outputs were added to the network instead.", file=sys.stderr)
    parity = target.prove() if found[seed].culprit is None and target.prove is not None else None
    _show(found, args, limit, parity, target.unproven)
    if found[seed].culprit is not None:
        return "regression"
    return "inconclusive" if target.unproven or (parity is not None and not parity.passed) else None


def _search(
    args: argparse.Namespace, target: Target, model: Any, limit: float, seed: int
) -> tuple[Bisection, str | None]:
    """What one batch shows, and why TensorRT's debug tensors were given up, if they were."""
    types = {value.name: _TORCH_TYPES.get(value.type.tensor_type.elem_type) for value in model.graph.input}
    # Both sides get the inputs as the model takes them: rounding them is not the fault of any of its nodes.
    inputs = {name: value.to(types.get(name) or value.dtype) for name, value in target.inputs(seed).items()}
    with scope(target.precision):
        candidate = _candidate(args, target, model, inputs)
        found = bisect(
            model,
            candidate,
            OnnxRuntimeTensors(
                float32_twin(model),
                {name: _widened(value) for name, value in inputs.items()},
                rounded=target.backend is BackendName.ONNXRUNTIME,
            ),
            limit=limit,
            at_once=args.at_once,
        )
    return found, candidate.without_debug if isinstance(candidate, TensorRTTensors) else None


def _target(args: argparse.Namespace, settings: Policy) -> Target:
    path = Path(args.target)
    if path.suffix == ".onnx":
        # Through a case id, so that a misspelt backend or precision is refused like everywhere else.
        case = Case.parse(f"file-{args.backend}-{args.precision}-b1-stream")
        _require_tensors(case.backend, "--backend tensorrt_engine or --backend onnxruntime")
        with file_that_was_named():
            return target_of_file(path, case, settings)
    case = Case.parse(args.target)
    _require_tensors(case.backend, f"'trtgate bisect {replace(case, backend=BackendName.TENSORRT_ENGINE).id}'")
    make_cache(args.cache_dir)
    return target_of_case(case, args.cache_dir, settings)


def _require_tensors(backend: BackendName, instead: str) -> None:
    """Refuse a backend without intermediate tensors before anything is exported for it."""
    if backend not in _SHOWING:
        raise UnsupportedCaseError(
            f"{backend} does not show intermediate tensors.",
            f"Run {instead}, which computes the same model from an ONNX graph.",
        )


def _candidate(args: argparse.Namespace, target: Target, model: Any, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    if target.backend is BackendName.TENSORRT_ENGINE:
        return TensorRTTensors(
            target.path,
            target.precision,
            args.target,
            {name: value.cuda() for name, value in inputs.items()} if torch.cuda.is_available() else inputs,
            show=args.show,
        )
    if target.precision is Precision.BF16:
        raise UnsupportedCaseError(
            "ONNX Runtime's CPU provider has no bf16 kernels to bisect.", "Bisect the tensorrt_engine case."
        )
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return OnnxRuntimeTensors(model, arrays, optimise=True, rounded=True)


_TORCH_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}


def _widened(value: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.asarray((value.float() if value.is_floating_point() else value).numpy())


def _show(
    found: Mapping[int, Bisection],
    args: argparse.Namespace,
    limit: float,
    parity: Parity | None,
    unproven: str,
) -> None:
    seed, last = list(found.items())[-1]
    if args.json:
        told = {
            "target": args.target,
            "limit": limit,
            "seed": seed,
            "culprit": None if last.culprit is None else asdict(last.culprit) | {"growth": last.culprit.growth},
            "outputs": [asdict(one) for one in last.outputs],
            "tensors": len(last.seen),
            "runs": sum(one.probes for one in found.values()),
            "parity": None if parity is None else {"passed": parity.passed, "message": parity.message},
            "unproven": unproven,
            "warning": _DISTURBANCE,
        }
        print(json.dumps(_plain(told), indent=1, allow_nan=False))
    elif last.culprit is not None:
        print("\n".join(_sentences(last.culprit, args.target, limit)))
        print(f"{len(last.seen)} tensors of seed {seed} were compared in {last.probes} runs. {_DISTURBANCE}")
    else:
        print("\n".join(_nothing_found(found, args.target, limit, parity, unproven)))


def _nothing_found(
    found: Mapping[int, Bisection], target: str, limit: float, parity: Parity | None, unproven: str
) -> list[str]:
    worst = max(one.relative_l2 for search in found.values() for one in search.outputs)
    seeds = ", ".join(map(str, found))
    lines = [
        f"{target}: no output is wrong on the seeds {seeds}: the largest relative error is {worst:.2e}, and up to "
        f"{limit:.1e} counts as rounding."
    ]
    if unproven:
        lines.append(f"Parity cannot judge this case: {unproven}")
    elif parity is not None and parity.passed:
        lines.append("The case passes parity.")
    elif parity is not None:
        lines += [
            f"Yet it fails parity: {parity.message}",
            f"Search with a lower limit, such as --limit {worst / 2:.1e}, or on other batches with --seed. If nothing "
            "is found there either, the fault needs a fusion that showing tensors takes away: compare the case with "
            "another one by 'trtgate inspect --against'.",
        ]
    return lines


def _sentences(culprit: Culprit, target: str, limit: float) -> list[str]:
    out = culprit.output
    if culprit.masking:
        jump = (
            f"{target}: the fault is in a fusion. The error shows at node '{culprit.node}' ({culprit.op}), and goes "
            "away when one of the tensors is shown that are marked with 'fused'."
        )
    else:
        jump = f"{target}: the error jumps at node '{culprit.node}' ({culprit.op})."
    lines = [
        jump,
        f"  output {_described(out)}",
        *(f"  fused  {_described(one.tensor)}, made by '{one.node}' ({one.op})" for one in culprit.masking),
        *(f"  input  {_described(one)}" for one in culprit.inputs),
        *(f"  input  '{name}' could not be shown" for name in culprit.hidden),
    ]
    if out.overflows:
        lines.append(
            f"  Its values reach {max(abs(out.low), abs(out.high)):.4g}, more than {out.datatype} holds: an overflow. "
            "Keep this node in a wider type, or scale its inputs."
        )
    lines.append(f"  A relative L2 error up to {limit:.1e} counts as rounding.")
    return lines


def _described(one: TensorError) -> str:
    broken = f", {one.non_finite} elements NaN or infinite" if one.non_finite else ""
    return (
        f"'{one.tensor}' {one.datatype or 'of unknown type'}, in the reference from {one.low:.4g} to {one.high:.4g}: "
        f"relative error {one.relative_l2:.2e}{broken}"
    )


def _plain(value: Any) -> Any:
    """Plain JSON, which has neither infinity nor NaN: None stands for them."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
