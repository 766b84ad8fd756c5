"""What a quantised engine is compared with, tightly: the model that it was built from, in fake quantisation.

Quantising loses accuracy; running what was quantised should not. The two are told apart only if the reference has the
very same Q/DQ pairs at the same places with the same scales:

* An engine or ONNX Runtime session reads an ONNX model in which the Q/DQ nodes *are* the fake quantisation. The
  reference is that file, executed by ONNX Runtime on the CPU with every optimisation off, so that each node is computed
  as ONNX defines it, in float32. Optimisations must be off: from ORT_ENABLE_EXTENDED on, ONNX Runtime 1.32 removes
  a Relu before an fp8 QuantizeLinear, as if fp8 had no negative values, and is wrong by more than the signal.
* Torch-TensorRT compiles ModelOpt's PyTorch module, which places pairs differently. The reference is that module, in
  float64 between the quantisers (ModelOpt rounds in float32).

How tight is tight? Rounding is a step, so a deep quantised network amplifies the last bit of a sum until it is worth as
much as quantisation itself. Measured on the CPU with seeded weights, int8 and max calibration: changing resnet18's
inputs by 1e-5 of their value moves the outputs of this very reference by 24 dB, while its distance from float is 23 dB;
simple_cnn, four layers deep, does not change at all. A bound on the distance from the reference therefore has to allow
a deep model about the reference's own distance from float64, and can only be tighter for a shallow one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trtgate.case import BackendName, Case
from trtgate.errors import UnsupportedCaseError
from trtgate.precision import quantise_torch
from trtgate.precision.calibration import CalibrationSpec

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

Reference = Callable[[tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]


def reference_for(
    workload: Workload,
    case: Case,
    cache: Path,
    quantised_onnx: Callable[[], Path],
    spec: CalibrationSpec = CalibrationSpec(),  # noqa: B008  (frozen)
) -> Reference:
    """The fake-quantised model of a case, as a function of CPU inputs that returns CPU outputs.

    Args:
        workload: what is measured.
        case: a quantised case; its backend decides which quantised model is meant.
        cache: folder for artefacts.
        quantised_onnx: gives the file that the case's engine or session is built from; called only for those. (The
            exporter lives above this module, so it is passed in.)
        spec: calibration of the PyTorch module.

    Raises:
        UnsupportedCaseError: the case is not quantised, or its backend never is.
        BackendAbsentError, CalibrationError, StorageError: from quantising.
    """
    if not case.precision.quantised:
        raise UnsupportedCaseError(
            f"The case '{case.id}' is not quantised.", "Compare it with the float64 module instead."
        )
    if case.backend in (BackendName.TENSORRT_ENGINE, BackendName.ONNXRUNTIME):
        return onnx_reference(quantised_onnx())
    if case.backend is BackendName.TORCH_TENSORRT:
        module = quantise_torch.fake_quantised(
            workload, case.precision, cache, torch.device("cpu"), spec.for_precision(case.precision), case.sequence
        ).double()
        return lambda inputs: _run_module(module, inputs)
    raise UnsupportedCaseError(
        f"The backend '{case.backend}' does not run {case.precision}.",
        "Use onnxruntime, torch_tensorrt or tensorrt_engine for quantised cases.",
    )


def onnx_reference(path: Path) -> Reference:
    """An ONNX model executed node by node, as written, on the CPU.

    Args:
        path: an ONNX file, with or without Q/DQ nodes. Where it says float16, its weights and scales are rounded to
            float16, as they are in the engine, while arithmetic runs in float32.
    """
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {
        item.name: {"tensor(float16)": np.float16, "tensor(float)": np.float32}.get(item.type)
        for item in session.get_inputs()
    }

    def run(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        feeds = {}
        for (name, dtype), tensor in zip(wanted.items(), inputs, strict=True):
            array = tensor.detach().cpu()
            feeds[name] = array.numpy() if dtype is None else array.float().numpy().astype(dtype)
        return tuple(torch.from_numpy(output) for output in session.run(None, feeds))

    return run


def _run_module(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    wide = tuple(tensor.detach().cpu() for tensor in inputs)
    with torch.no_grad():
        output = module(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in wide))
    return tuple(torch.utils._pytree.tree_leaves(output))
