"""How far one tensor of a candidate is from the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from trtgate.errors import InspectionError

Array = npt.NDArray[Any]


class Tensors(Protocol):
    """Something that computes a model and shows tensors of it."""

    def values(self, tensors: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """Yield the named tensors in that order; those that it cannot show are left out."""


_LARGEST: Final = {"FLOAT16": 65504.0, "FLOAT8E4M3FN": 448.0, "FLOAT8E5M2": 57344.0}


@dataclass(frozen=True, slots=True)
class TensorError:
    """How far a tensor of the candidate is from the reference's.

    Attributes:
        relative_l2: norm of the difference over the norm of the reference, over elements that are finite in both.
        non_finite: elements that are NaN or infinite in the candidate alone.
        low: least value of the reference.
        high: greatest value of the reference.
        datatype: of the tensor in the model, as ONNX names it.
    """

    tensor: str
    relative_l2: float
    non_finite: int
    low: float
    high: float
    datatype: str

    def wrong(self, limit: float) -> bool:
        """Whether it is beyond what rounding explains."""
        return self.non_finite > 0 or not self.relative_l2 <= limit

    @property
    def overflows(self) -> bool:
        """Whether the reference's values do not fit the tensor's datatype."""
        largest = _LARGEST.get(self.datatype)
        return largest is not None and max(abs(self.low), abs(self.high)) > largest


def tensor_error(name: str, candidate: Array, reference: Array, datatype: str = "") -> TensorError:
    """Compare two tensors of equal shape.

    Raises:
        InspectionError: their shapes differ.
    """
    if candidate.shape != reference.shape:
        raise InspectionError(
            f"'{name}' has the shape {candidate.shape} in the candidate and {reference.shape} in the reference.",
            "Check that both were built from the same ONNX file.",
        )
    got, want = candidate.astype(np.float64), reference.astype(np.float64)
    usable = np.isfinite(want)
    broken = usable & ~np.isfinite(got)
    both = usable & ~broken
    scale = float(np.linalg.norm(want[both]))
    distance = float(np.linalg.norm(got[both] - want[both]))
    return TensorError(
        tensor=name,
        relative_l2=distance / scale if scale > 0 else (0.0 if distance == 0 else math.inf),
        non_finite=int(np.count_nonzero(broken)),
        low=float(want[usable].min()) if usable.any() else math.nan,
        high=float(want[usable].max()) if usable.any() else math.nan,
        datatype=datatype,
    )
