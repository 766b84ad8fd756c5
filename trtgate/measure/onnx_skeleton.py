"""Load an ONNX model without its weights: structure, shapes and small constants, in memory that does not grow with it.

A vision transformer's file is hundreds of megabytes of initialisers, of which an inspection needs none. The file is
walked in protobuf's wire format (https://protobuf.dev/programming-guides/encoding/), and the data of each large
initialiser is stepped over; field numbers are those of onnx.proto (IR version 10).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from trtgate.errors import InspectionError

_MODEL_GRAPH: Final = 7
_GRAPH_INITIALIZER: Final = 5
_MODEL_FIELDS: Final = frozenset(onnx.ModelProto.DESCRIPTOR.fields_by_number)
_TENSOR_DATA: Final = frozenset({4, 5, 6, 7, 9, 10, 11})
_LENGTH_DELIMITED: Final = 2
SMALL_BYTES: Final = 4096
# The zoo's structures are under 1 MB, a large language model's some 20 MB, most of it the exporter's stack traces.
_MOST_STRUCTURE_BYTES: Final = 128 * 2**20
_LEAST_FIELD_BYTES: Final = 16  # what a field counts at least, so that billions of empty ones end too


def load_skeleton(path: Path) -> Any:
    """The model, with the data of every initialiser above 4 KiB left out and external data not read.

    Args:
        path: an .onnx file.

    Returns:
        An onnx.ModelProto whose large initialisers have type and dims but no data.

    Raises:
        InspectionError: the file cannot be read or is not an ONNX model.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            kept = _Walk(whole).model(0, len(whole))
        model = onnx.ModelProto.FromString(kept)
    except OSError as error:
        raise InspectionError(
            f"{path} cannot be read ({error.strerror}).", "Name a readable ONNX file, or export the case again."
        ) from None
    except (ValueError, IndexError, DecodeError) as error:
        raise InspectionError(
            f"{path} is not an ONNX model ({error}).", "Name an .onnx file, or export the case again."
        ) from None
    if not model.graph.node:
        raise InspectionError(f"{path} holds no nodes.", "Name an .onnx file, or export the case again.")
    return model


class _Walk:
    """Copies a model without its tensors' data, within a budget: any bytes at all may be handed in."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._left_bytes = _MOST_STRUCTURE_BYTES

    def model(self, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        for number, field, body, stop in _fields(self._data, start, end):
            if number not in _MODEL_FIELDS:
                raise ValueError(f"a model has no field {number}, which stands at byte {field}")
            if number == _MODEL_GRAPH:
                parts.append(_delimited(_MODEL_GRAPH, self._graph(body, stop)))
            else:
                parts.append(self._taken(field, stop))
        return b"".join(parts)

    def _graph(self, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        for number, field, body, stop in _fields(self._data, start, end):
            if number == _GRAPH_INITIALIZER and stop - body > SMALL_BYTES:
                parts.append(_delimited(_GRAPH_INITIALIZER, self._tensor(body, stop)))
            else:
                parts.append(self._taken(field, stop))
        return b"".join(parts)

    def _tensor(self, start: int, end: int) -> bytes:
        parts = []
        for number, field, _, stop in _fields(self._data, start, end):
            parts.append(self._taken(field, field if number in _TENSOR_DATA else stop))
        return b"".join(parts)

    def _taken(self, start: int, stop: int) -> bytes:
        self._left_bytes -= max(stop - start, _LEAST_FIELD_BYTES)
        if self._left_bytes < 0:
            raise ValueError(f"it has more than {_MOST_STRUCTURE_BYTES >> 20} MiB beside its initialisers")
        return self._data[start:stop]


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, where the field begins, where its body begins, where it ends)."""
    at = start
    while at < end:
        tag, body = _varint(data, at)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, body = _varint(data, body)
            stop = body + length
        elif kind == 0:
            _, stop = _varint(data, body)
        elif kind in (1, 5):
            stop = body + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if tag >> 3 == 0:
            raise ValueError(f"field number 0 at byte {at}")
        if stop > end:
            raise ValueError(f"a field at byte {at} runs past its end")
        yield tag >> 3, at, body, stop
        at = stop


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number at byte {at} is too long")


def _delimited(number: int, body: bytes) -> bytes:
    return _encode(number << 3 | _LENGTH_DELIMITED) + _encode(len(body)) + body


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
