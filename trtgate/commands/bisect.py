"""``trtgate bisect``: name the first layer whose error jumps, with the ranges and datatypes of what it reads."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from trtgate.artefacts import make_cache
from trtgate.backends.onnxruntime_intermediates import OnnxRuntimeTensors
from trtgate.backends.trt_debug import TensorRTTensors
from trtgate.case import BackendName, Case, Precision
from trtgate.commands import bisect_words
from trtgate.commands.bisect_progress import Progress
from trtgate.commands.shared import add_policy, file_that_was_named, policy_of
from trtgate.errors import UnsupportedCaseError, UsageError
from trtgate.measure.bisect import Bisection, bisect
from trtgate.measure.bisect_target import Target, target_of_case, target_of_file
from trtgate.measure.float32_model import float32_twin
from trtgate.precision.tf32 import scope

if TYPE_CHECKING:
    from trtgate.measure.tensor_error import Tensors
    from trtgate.policy import Policy

_SHOWING = (BackendName.TENSORRT_ENGINE, BackendName.ONNXRUNTIME)
_SEEDS = 2**32  # what torch's and numpy's generators both take


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
        "--max-runs", type=int, metavar="N", help="runs of the engine on one batch; default: as many as it takes"
    )
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
        ``regression`` where a tensor is wrong; ``inconclusive`` where one is in one build and not in the next, the
        runs that were allowed are used up, or none is wrong, and parity fails or cannot judge the case; else None.

    Raises:
        TrtgateError: the case cannot be bisected here; the message says why and what to do.
    """
    if args.at_once < 1 or (args.limit is not None and not 0 < args.limit < math.inf):
        raise UsageError(
            f"--at-once is {args.at_once} and --limit is {args.limit}.", "Give a whole number and a limit above 0."
        )
    if args.max_runs is not None and args.max_runs < 1:
        raise UsageError(f"--max-runs is {args.max_runs}.", "Give a whole number above 0.")
    if args.seed is not None and not 0 <= args.seed < _SEEDS:
        raise UsageError(f"--seed is {args.seed}.", f"Give a whole number from 0 to {_SEEDS - 1}.")
    settings = policy_of(args.policy)
    progress = Progress()
    progress.doing(f"preparing {args.target}: its ONNX file, and what parity allows")
    target = _target(args, settings)
    limit = args.limit or target.limit
    seeds = range(settings.parity.batches) if args.seed is None else (args.seed,)
    model = onnx.load(target.path)
    found: dict[int, Bisection] = {}
    notes: dict[str, None] = {}
    for seed in seeds:
        found[seed], note = _search(args, target, model, limit, seed, progress)
        notes |= {note: None} if note else {}
        if _is_wrong(found[seed]):
            break
    last = found[seed]
    parity = None
    if not _is_wrong(last) and target.prove is not None:
        progress.doing(f"proving {args.target}")
        parity = target.prove()
    progress.finished()
    told = [f"{note} Outputs were added to the network instead." for note in notes]
    for note in told:
        print(note, file=sys.stderr)
    words = bisect_words.Words(args.target, limit, found, parity, target.unproven, told)
    print(words.as_json() if args.json else words.as_text())
    if last.culprit is not None:
        return "regression"
    failed = parity is not None and not parity.passed
    return "inconclusive" if _is_wrong(last) or target.unproven or failed else None


def _is_wrong(found: Bisection) -> bool:
    return found.culprit is not None or bool(found.unstable) or found.stopped_at is not None


def _search(
    args: argparse.Namespace, target: Target, model: Any, limit: float, seed: int, progress: Progress
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
            watch=progress.watch(seed),
            max_runs=args.max_runs,
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
