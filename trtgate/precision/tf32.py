"""torch's TF32 switches: off for every precision but tf32, held for the time of a measurement, and proven to hold.

torch has two interfaces to the same switches. ``fp32_precision`` (since 2.9) leaves the older flags behind, and reading
those then raises; Inductor and Dynamo still read them. The older interface sets both views consistently, so it is the
only one that is written here; the newer one is read, to prove that the switches took.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trtgate.case import Precision
from trtgate.errors import MeasurementError

_FIX = "Set TF32 neither through torch.backends.*.fp32_precision nor in a start-up file; trtgate sets it by itself."


@contextmanager
def scope(precision: Precision) -> Iterator[None]:
    """Hold torch's TF32 switches as a precision wants them: on for tf32, off for all others.

    Covers matrix products of cuBLAS and oneDNN and the convolutions and recurrent networks of cuDNN. Compile and run
    inside the same scope: Dynamo guards on these switches.

    Raises:
        MeasurementError: the switches were set through torch's newer interface, or did not take.
    """
    wanted = precision is Precision.TF32
    try:
        before = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise MeasurementError(f"torch cannot say whether TF32 is on ({reason}).", _FIX) from error
    try:
        _set("high" if wanted else "highest", wanted)
        _require(wanted)
        yield
    finally:
        _set(*before)


def enabled() -> tuple[bool, bool]:
    """Whether TF32 is on for matrix products and for convolutions on CUDA, as both of torch's interfaces have it.

    Raises:
        MeasurementError: the two interfaces contradict each other.
    """
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    try:
        older = (bool(torch.backends.cuda.matmul.allow_tf32), bool(torch.backends.cudnn.allow_tf32))
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise MeasurementError(f"torch cannot say whether TF32 is on ({reason}).", _FIX) from error
    newer = (matmul.fp32_precision == "tf32", convolution.fp32_precision == "tf32")
    if older != newer:
        raise MeasurementError(f"torch's flags say TF32 {older}, its fp32_precision says {newer}.", _FIX)
    return older


def _set(matmul: str, convolution: bool) -> None:
    with warnings.catch_warnings():
        # Some releases warn that this interface will go; see above why it is the right one until it does.
        warnings.filterwarnings("ignore", message=".*TF32.*", category=UserWarning)
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


def _require(wanted: bool) -> None:
    if enabled() != (wanted, wanted):
        raise MeasurementError(f"TF32 should be {wanted} and torch says {enabled()}.", _FIX)
