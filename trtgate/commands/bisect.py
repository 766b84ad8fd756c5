"""``trtgate bisect``: name the first layer whose error jumps, with the ranges and datatypes of what it reads."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from trtgate.artefacts import make_cache
from trtgate.backends import onnx_export, tensorrt_engine
from trtgate.backends.cuda_device import cuda_answer
from trtgate.backends.onnxruntime_intermediates import OnnxRuntimeTensors
from trtgate.backends.trt_debug import TensorRTTensors
from trtgate.case import BackendName, Case, Precision
from trtgate.commands.shared import add_policy, file_that_was_named, policy_of
from trtgate.errors import UnsupportedCaseError, UsageError
from trtgate.measure.bisect import Bisection, TensorError, Tensors, bisect
from trtgate.measure.float32_model import float32_twin
from trtgate.measure.onnx_skeleton import load_skeleton
from trtgate.measure.optimisation_run import micro_of
from trtgate.measure.workplace import build_context, workload_of
from trtgate.precision.tf32 import scope

if TYPE_CHECKING:
    from trtgate.measure.bisect import Culprit
    from trtgate.policy import Policy

# Beyond ten times what parity allows for rounding at a model's end, no single tensor's error is rounding.
_LIMIT_OVER_FLOOR = 10.0
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
    parser.add_argument("--seed", type=int, default=0, help="which of the seeded batches; default: 0")
    parser.add_argument("--limit", type=float, help="relative L2 error of a tensor that is still right")
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
        ``regression`` where a tensor is wrong, else None.

    Raises:
        TrtgateError: the case cannot be bisected here; the message says why and what to do.
    """
    if args.at_once < 1 or (args.limit is not None and args.limit <= 0):
        raise UsageError(
            f"--at-once is {args.at_once} and --limit is {args.limit}.", "Give a whole number and a limit above 0."
        )
    settings = policy_of(args.policy)
    path, backend, precision, inputs = _what(args, settings)
    limit = args.limit or _LIMIT_OVER_FLOOR * settings.parity.tolerance[precision].floor
    model = onnx.load(path)
    with scope(precision):
        candidate = _candidate(args, path, model, backend, precision, inputs)
        found = bisect(
            model,
            candidate,
            OnnxRuntimeTensors(
                float32_twin(model),
                {name: _widened(value) for name, value in inputs.items()},
                rounded=backend is BackendName.ONNXRUNTIME,
            ),
            limit=limit,
            at_once=args.at_once,
        )
    if isinstance(candidate, TensorRTTensors) and candidate.without_debug:
        print(f"{candidate.without_debug} Outputs were added to the network instead.", file=sys.stderr)
    _show(found, args, limit)
    return None if found.culprit is None else "regression"


def _what(args: argparse.Namespace, settings: Policy) -> tuple[Path, BackendName, Precision, dict[str, torch.Tensor]]:
    path = Path(args.target)
    if path.suffix == ".onnx":
        # Through a case id, so that a misspelt backend or precision is refused like everywhere else.
        case = Case.parse(f"file-{args.backend}-{args.precision}-b1-stream")
        _require_tensors(case.backend, "--backend tensorrt_engine or --backend onnxruntime")
        with file_that_was_named():
            return path, case.backend, case.precision, _random_inputs(path, args.seed)
    case = Case.parse(args.target)
    _require_tensors(case.backend, f"'trtgate bisect {replace(case, backend=BackendName.TENSORRT_ENGINE).id}'")
    make_cache(args.cache_dir)
    if (micro := micro_of(case)) is not None:
        written = micro.write(args.cache_dir / "onnx", case.precision)
        return written, case.backend, case.precision, _random_inputs(written, args.seed)
    case, workload = workload_of(args.target, args.cache_dir)
    context = build_context(args.cache_dir, settings)
    if case.backend is BackendName.TENSORRT_ENGINE and cuda_answer():
        exported = tensorrt_engine.parsed_onnx(workload, case, context, ahead_of_time=False)
    else:
        exported = onnx_export.export(workload, case, args.cache_dir, context.stopwatch, context.calibration)
    tensors = workload.inputs(case.batch, case.sequence, args.seed)
    return exported, case.backend, case.precision, dict(zip(workload.input_names, tensors, strict=True))


def _require_tensors(backend: BackendName, instead: str) -> None:
    """Refuse a backend without intermediate tensors before anything is exported for it."""
    if backend not in _SHOWING:
        raise UnsupportedCaseError(
            f"{backend} does not show intermediate tensors.",
            f"Run {instead}, which computes the same model from an ONNX graph.",
        )


def _random_inputs(path: Path, seed: int) -> dict[str, torch.Tensor]:
    """Seeded standard normal inputs of a file."""
    generator = torch.Generator().manual_seed(seed)
    graph = load_skeleton(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    found = {}
    for value in graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        if onnx.TensorProto.DataType.Name(kind.elem_type) not in ("FLOAT", "FLOAT16", "BFLOAT16") or 0 in shape:
            raise UsageError(
                f"Input '{value.name}' of {path} is not a floating-point tensor of a static shape.",
                "Bisect the case that the file was exported for, which has inputs of its own.",
            )
        found[value.name] = torch.randn(shape, generator=generator)
    return found


def _candidate(
    args: argparse.Namespace,
    path: Path,
    model: Any,
    backend: BackendName,
    precision: Precision,
    inputs: Mapping[str, torch.Tensor],
) -> Tensors:
    types = {value.name: _TORCH_TYPES.get(value.type.tensor_type.elem_type) for value in model.graph.input}
    typed = {name: value.to(types[name]) if types.get(name) else value for name, value in inputs.items()}
    if backend is BackendName.TENSORRT_ENGINE:
        return TensorRTTensors(
            path,
            precision,
            args.target,
            {name: value.cuda() for name, value in typed.items()} if torch.cuda.is_available() else typed,
            show=args.show,
        )
    if precision is Precision.BF16:
        raise UnsupportedCaseError(
            "ONNX Runtime's CPU provider has no bf16 kernels to bisect.", "Bisect the tensorrt_engine case."
        )
    arrays = {name: value.numpy() for name, value in typed.items()}
    return OnnxRuntimeTensors(model, arrays, optimise=True, rounded=True)


_TORCH_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}


def _widened(value: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.asarray((value.float() if value.is_floating_point() else value).numpy())


def _show(found: Bisection, args: argparse.Namespace, limit: float) -> None:
    if args.json:
        culprit = None if found.culprit is None else asdict(found.culprit) | {"growth": _number(found.culprit.growth)}
        outputs = [asdict(one) for one in found.outputs]
        told = {"target": args.target, "limit": limit, "culprit": culprit, "outputs": outputs}
        compared = {"tensors": len(found.seen), "runs": found.probes, "warning": _DISTURBANCE}
        print(json.dumps(told | compared, indent=1))
        return
    if found.culprit is None:
        worst = max(found.outputs, key=lambda one: one.relative_l2)
        print(f"{args.target}: every output is right; the largest relative error is {worst.relative_l2:.2e}.")
        return
    print("\n".join(_sentences(found.culprit, args.target, limit)))
    print(f"{len(found.seen)} tensors were compared in {found.probes} runs. {_DISTURBANCE}")


def _sentences(culprit: Culprit, target: str, limit: float) -> list[str]:
    out = culprit.output
    lines = [
        f"{target}: the error jumps at node '{culprit.node}' ({culprit.op}).",
        f"  output {_described(out)}",
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


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
