"""What an optimised model consists of: a typed census of its layers, and the source graph that they came from.

A census is plain data. Who reads one from a vendor's output: `inspector_json`, `build_log`, `ort_census`. Who
interprets it: `compute_share`, `optimisation`, `difference`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trtgate import artefacts
from trtgate.errors import InspectionError
from trtgate.validation import first_problem

SCHEMA: Final = 3
"""Raise it whenever a reader makes something else of the same engine, so that kept censuses are made anew."""
_MOST_BYTES: Final = 64 * 2**20  # vit_b_16's has 0.2 MB
WEIGHTS: Final = "Weights"
"""Name of a layer's kernel where the runtime gives it none, and only its number of elements for a shape."""


class Datatype(StrEnum):
    """Datatype of a tensor in an engine, whatever the release calls it."""

    FP64 = "fp64"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    FP4 = "fp4"
    INT64 = "int64"
    INT32 = "int32"
    INT8 = "int8"
    UINT8 = "uint8"
    INT4 = "int4"
    BOOL = "bool"
    UNKNOWN = "unknown"

    @property
    def bits(self) -> int:
        """Width of one element; 0 where it is unknown."""
        return _BITS[self]

    @property
    def floating(self) -> bool:
        """Whether it is a floating-point type."""
        return self in (Datatype.FP64, Datatype.FP32, Datatype.BF16, Datatype.FP16, Datatype.FP8, Datatype.FP4)


_BITS: Final = {
    Datatype.FP64: 64,
    Datatype.INT64: 64,
    Datatype.FP32: 32,
    Datatype.INT32: 32,
    Datatype.BF16: 16,
    Datatype.FP16: 16,
    Datatype.FP8: 8,
    Datatype.INT8: 8,
    Datatype.UINT8: 8,
    Datatype.BOOL: 8,
    Datatype.FP4: 4,
    Datatype.INT4: 4,
    Datatype.UNKNOWN: 0,
}

# Longest and most specific first: "BFLOAT16" holds "FLOAT", "INT8" is a tail of "UINT8". Polygraphy's extractor uses
# the same order; the short names (Half, Float) are Myelin's, the long ones ("Row major linear FP16 format") TensorRT's.
_SPELLINGS: Final = (
    ("BFLOAT16", Datatype.BF16),
    ("BF16", Datatype.BF16),
    ("FLOAT8", Datatype.FP8),
    ("FP8", Datatype.FP8),
    ("FLOAT4", Datatype.FP4),
    ("FP4", Datatype.FP4),
    ("FLOAT64", Datatype.FP64),
    ("DOUBLE", Datatype.FP64),
    ("FLOAT16", Datatype.FP16),
    ("FP16", Datatype.FP16),
    ("HALF", Datatype.FP16),
    ("TF32", Datatype.FP32),
    ("FP32", Datatype.FP32),
    ("FLOAT", Datatype.FP32),
    ("UINT8", Datatype.UINT8),
    ("INT64", Datatype.INT64),
    ("INT32", Datatype.INT32),
    ("INT8", Datatype.INT8),
    ("INT4", Datatype.INT4),
    ("BOOL", Datatype.BOOL),
)


def datatype_of(text: str) -> Datatype:
    """Read the datatype out of what an inspector prints: ``Half``, ``Row major linear FP16 format``, ``FP8``.

    Args:
        text: value of "Datatype", "DataType", "Format/Datatype" or "Format".

    Returns:
        The datatype, or UNKNOWN where no known spelling occurs.
    """
    upper = text.upper()
    return next((kind for spelling, kind in _SPELLINGS if spelling in upper), Datatype.UNKNOWN)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorUse(_Frozen):
    """A tensor as one layer reads or writes it."""

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    layout: str = Field(default="", description="memory layout as the runtime words it, empty where it does not")

    @property
    def is_matrix(self) -> bool:
        """Whether it can be the weights of a product: two extents or more, or a kernel whose shape is not told."""
        return self.name == WEIGHTS or sum(extent > 1 for extent in self.shape) >= 2

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar. A dynamic dimension (-1) counts as 1."""
        count = 1
        for extent in self.shape:
            count *= max(extent, 1)
        return count


class Role(StrEnum):
    """What a layer is for."""

    COMPUTE = "compute"
    POINTWISE = "pointwise"
    MOVEMENT = "movement"
    SYNCHRONISATION = "synchronisation"


class Layer(_Frozen):
    """One layer of an engine: in Myelin-built engines, one kernel.

    Attributes:
        sources: names of the ONNX nodes whose work it does, as its metadata says.
        tactic: None where the runtime hides it (``__myelin_CASK_STUB``) or has none.
        operations: what the kernel computes, in order, as far as its name tells (``Fc``, ``Add``, ``Erf``).
    """

    name: str
    kind: str = Field(description="LayerType of the inspector, or the operator of ONNX Runtime")
    role: Role
    sources: tuple[str, ...]
    inputs: tuple[TensorUse, ...]
    outputs: tuple[TensorUse, ...]
    constants: tuple[TensorUse, ...] = ()
    tactic: str | None = None
    operations: tuple[str, ...] = ()
    stream: int = 0

    @property
    def is_kernel(self) -> bool:
        """Whether it launches work on the device, which signals and waits do not."""
        return self.role is not Role.SYNCHRONISATION

    @property
    def is_cast(self) -> bool:
        """Whether it does nothing but move data and change its floating-point or quantised type."""
        read = {use.datatype for use in self.inputs}
        written = {use.datatype for use in self.outputs}
        moves = self.role is Role.MOVEMENT and bool(read) and bool(written) and read != written
        return moves or self.is_quantisation

    @property
    def is_quantisation(self) -> bool:
        """Whether it does nothing but quantise or dequantise."""
        return self.kind.rpartition(".")[2].lower().removesuffix("linear") in ("quantize", "dequantize")

    @property
    def is_reformat(self) -> bool:
        """Whether it does nothing but move data, type unchanged: layout changes, copies, padding, concatenation."""
        return self.role is Role.MOVEMENT and not self.is_cast


class SourceNode(_Frozen):
    """One node of the ONNX graph that was built.

    Attributes:
        flops: floating-point operations, a multiply-add counted as two; 0 for what is not matrix arithmetic.
        activations: how many of its matrix operands depend on the model's inputs; 0 where ``flops`` is.
        output_elements: elements of its first output, None where the shape is unknown.
        constant: whether it depends on initialisers alone, so that a builder can fold it.
        dead: whether no output of the model depends on it.
        duplicate_of: an earlier node that computes the same from the same, or None.
    """

    name: str
    op: str
    flops: int = 0
    activations: int = 0
    output_elements: int | None = None
    constant: bool = False
    dead: bool = False
    duplicate_of: str | None = None


class Census(_Frozen):
    """Layers of one built model, beside the graph that it was built from.

    Attributes:
        origin: who told.
        sources: nodes of the ONNX graph; empty where the graph is not at hand, and then no share can be computed.
        plan_digest: SHA-256 of the plan that it describes, None where there is no plan.
    """

    schema_version: Literal[3] = SCHEMA
    origin: Literal["inspector", "build_log", "torch_tensorrt", "onnxruntime"]
    runtime: str = Field(default="", description="such as 'tensorrt_rtx 1.6.1.120'")
    layers: tuple[Layer, ...]
    sources: tuple[SourceNode, ...] = ()
    plan_digest: str | None = None

    @property
    def kernels(self) -> int:
        """Layers that launch work."""
        return sum(layer.is_kernel for layer in self.layers)

    def covering(self, node: str) -> tuple[Layer, ...]:
        """The layers that do work of an ONNX node, in execution order."""
        return tuple(layer for layer in self.layers if node in layer.sources)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            StorageError: the folder cannot be written.
        """
        kept = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps({"schema_version": SCHEMA, **kept})

        def fill(made: Path) -> None:
            made.write_text(text, encoding="utf-8")

        artefacts.write(path, fill)

    @classmethod
    def load(cls, path: Path) -> Census:
        """Read what `save` wrote.

        Raises:
            InspectionError: missing, damaged, or of a version that this release does not read.
        """
        try:
            with path.open("rb") as file:
                start = file.read(100)
                large = path.stat().st_size > _MOST_BYTES
                content = b"" if large else start + file.read()
            if large or b'"schema_version"' not in start:
                raise InspectionError(f"{path} is not a census of trtgate's.", "Delete it and build the engine again.")
            return cls.model_validate_json(content)
        except OSError as error:
            raise InspectionError(
                f"The census {path} cannot be read ({error.strerror}).", "Build the engine again to write a new one."
            ) from None
        except ValidationError as error:
            raise InspectionError(
                f"The census {path} is damaged or of another release: {first_problem(error, 'the file')}.",
                "Delete it and build the engine again.",
            ) from None
