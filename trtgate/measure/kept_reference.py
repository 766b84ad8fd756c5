"""References on disk, so that only the first of all runs and processes that prove a case computes what is right."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import torch

from trtgate import artefacts, precision
from trtgate.backends.base import BuildContext
from trtgate.backends.host_cpu import cpu_model
from trtgate.backends.plan_target import tf32_override
from trtgate.case import BackendName, Case
from trtgate.measure import reference as references
from trtgate.measure.reference import Evaluation, Reference, reference, reference_key
from trtgate.policy import ParitySettings
from trtgate.workloads.base import Workload

FOLDER: Final = "references"


def kept_reference(workload: Workload, case: Case, settings: ParitySettings, context: BuildContext) -> Reference:
    """The reference of a case: from ``context.cache`` where it lies there intact, else computed and left there.

    Args:
        workload: what is measured.
        case: precision and shape; for quantised precisions the backend too.
        settings: how many batches of how much variety.
        context: device, stream and cache.

    Raises:
        StorageError: the cache cannot be written.
        TrtgateError: from computing it.
    """
    path = context.cache / FOLDER / f"{'-'.join(reference_key(case))}-{_key(workload, case, settings, context)}.pt"
    if not artefacts.intact(path):
        computed = reference(workload, case, settings, context)
        artefacts.write(path, lambda file: torch.save(_plain(computed), file))
        return computed
    return _read(path)


def _key(workload: Workload, case: Case, settings: ParitySettings, context: BuildContext) -> str:
    cuda = context.device.type == "cuda"
    return artefacts.key(
        # A mended one must not be proven by what the broken one left.
        recipe=[artefacts.digest(Path(references.__file__)), *precision.code()],
        fingerprint=workload.model_key,
        case=reference_key(case),
        settings=settings.model_dump(mode="json"),
        quantised=_quantised(workload, case, context) if case.precision.quantised else None,
        # The yardstick is plain PyTorch's error on this very device.
        device=torch.cuda.get_device_name(context.device) if cuda else cpu_model(),
        cudnn=torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        tf32_override=tf32_override(),
        torch=torch.__version__,
    )


def _quantised(workload: Workload, case: Case, context: BuildContext) -> dict[str, object]:
    """What the fake-quantised model is, which also a newer quantiser changes, or other calibration data.

    Raises:
        TrtgateError: from quantising.
    """
    if case.backend is BackendName.TORCH_TENSORRT:
        from trtgate.precision import quantise_torch

        spec = context.calibration.for_precision(case.precision)
        return quantise_torch.cache_key(workload, case.precision, spec, case.sequence)
    import onnxruntime

    from trtgate.backends import onnx_export

    model = onnx_export.export(workload, case, context.cache, context.stopwatch, context.calibration)
    return {"model": artefacts.digest(model), "computed_by": onnxruntime.__version__}


def _plain(computed: Reference) -> dict[str, Any]:
    """Nothing but what torch reads back without running code from the file."""
    plain = {part.name: getattr(computed, part.name) for part in fields(computed)}
    held_out = computed.evaluation
    if held_out is not None:
        plain["evaluation"] = {part.name: getattr(held_out, part.name) for part in fields(held_out)}
    return plain


def _read(path: Path) -> Reference:
    plain = torch.load(path, map_location="cpu", weights_only=True)
    evaluation = plain.pop("evaluation")
    return Reference(**plain, evaluation=Evaluation(**evaluation) if evaluation is not None else None)
