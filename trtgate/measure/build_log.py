"""Read the layers of an engine out of the builder's verbose log: the way to a census without a GPU.

TensorRT-RTX builds ahead of time on a machine without a GPU, but an engine cannot be deserialised there, so that the
inspector cannot be asked. At ProfilingVerbosity.DETAILED the builder prints, in one VERBOSE message, a line "Layers:"
and then what the inspector would print in its ONELINE format. Recorded from TensorRT-RTX 1.4.0.76 and 1.6.1.120::

    Layers:
    Name: A, LayerType: T, Inputs: [ { Name: x, Dimensions: [2,8], Format/Datatype: Half }], Outputs: [ ... ], TacticName: C, StreamId: 0, Metadata: M

1.6 adds Strides, StrideOrder, Datatype, Format and a list "Constants". Names may hold commas, braces and brackets.
Signals and waits have an EventId behind the StreamId; jumps of control flow a JumpTarget, JumpTargetThen, JumpTargetElse.
"""  # noqa: E501  the format is shown as it is printed

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from trtgate.errors import InspectionError
from trtgate.measure.census import Census, Layer, TensorUse
from trtgate.measure.inspector_json import REBUILD, make_layer, tensor_use

_LAYER: Final = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>(?: \{.*?\})?)\]"
    r"(?:, Constants: \[(?P<constants>(?: \{.*?\})?)\])?, Outputs: \[(?P<outputs>(?: \{.*?\})?)\]"
    r"(?:.*?, TacticName: (?P<tactic>.*?))??(?:, TacticValue: \S*)?"
    r", StreamId: (?P<stream>\d+)(?:, (?:EventId|JumpTarget\w*): .*?)*?, Metadata: ?(?P<metadata>.*)$"
)
_TENSOR: Final = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<shape>[-\d, ]*)\](?P<rest>.*)$"
)
_FIELDS: Final = (
    ("Format/Datatype", re.compile(r", Format/Datatype: (.*)$")),
    ("Datatype", re.compile(r", Data[Tt]ype: ([^,]*)")),
    ("Format", re.compile(r", Format: (.*)$")),
)
# The second form is trtexec's: "[11/23/2026-10:11:12] [V] [TRT] ".
_SEVERITY: Final = re.compile(
    r"^(?:\[[\d/:-]+\] )?\[(?:VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR|[VIWEF])\] (?:\[TRT\] )?"
)


def parse_build_log(lines: Iterable[str], *, runtime: str = "") -> Census:
    """Turn the log of one build into a census (without source nodes).

    Args:
        lines: log messages or lines of a log file, with or without a severity such as ``[VERBOSE] `` in front.
        runtime: flavour and version, for the record.

    Raises:
        InspectionError: no layers in it, or those of several engines; the message says how to build so that they are.
    """
    blocks, names_only = _blocks(lines)
    if not blocks:
        if names_only:
            raise InspectionError(
                "The build log tells only the names of layers: the engine was built without detailed verbosity.",
                REBUILD,
            )
        raise InspectionError(
            "The build log holds no list of layers.",
            f"Log the build at severity VERBOSE, and at detailed profiling verbosity. {REBUILD}",
        )
    if len(blocks) > 1:
        raise InspectionError(
            f"The build log holds the layers of {len(blocks)} engines.", "Keep the log of one build at a time."
        )
    return Census(origin="build_log", runtime=runtime, layers=tuple(_layer(line) for line in blocks[0]))


def _blocks(lines: Iterable[str]) -> tuple[list[list[str]], bool]:
    blocks: list[list[str]] = []
    inside = names_only = False
    for raw in _split(lines):
        line, prefixed = _SEVERITY.subn("", raw)
        # What follows the list has a severity in front, unless the log was kept without.
        if prefixed or not line.startswith("Name: "):
            inside = False
        if line.strip() == "Layers:":
            inside = True
            blocks.append([])
        elif inside:
            blocks[-1].append(line)
        elif line.strip() == "Engine Layer Information:":
            names_only = True
    return [block for block in blocks if block], names_only


def _split(lines: Iterable[str]) -> Iterator[str]:
    # Not splitlines(): it would also break at U+001E and U+001F's neighbours, which separate ONNX nodes in metadata.
    for text in lines:
        yield from text.rstrip("\n").split("\n")


def _layer(line: str) -> Layer:
    match = _LAYER.match(line)
    if match is None:
        raise InspectionError(
            f"A layer in the build log has a form that this release does not read: {line[:80]!r}.",
            "Report that line; the engine itself is not affected.",
        )
    return make_layer(
        name=match["name"],
        kind=match["kind"],
        inputs=_tensors(match["inputs"]),
        outputs=_tensors(match["outputs"]),
        constants=_tensors(match["constants"] or ""),
        tactic=match["tactic"] or "",
        stream=int(match["stream"]),
        metadata=match["metadata"],
    )


def _tensors(text: str) -> tuple[TensorUse, ...]:
    return tuple(_tensor(part) for part in re.split(r"(?<=\}), (?=\{ Name: )", text.strip()) if part)


def _tensor(text: str) -> TensorUse:
    match = _TENSOR.match(text)
    if match is None:
        raise InspectionError(
            f"A tensor in the build log has a form that this release does not read: {text[:80]!r}.",
            "Report that line; the engine itself is not affected.",
        )
    rest = match["rest"].removesuffix("}").rstrip()
    fields = {key: found[1] for key, pattern in _FIELDS if (found := pattern.search(rest))}
    shape = tuple(int(extent) for extent in match["shape"].split(",") if extent.strip())
    return tensor_use({"Name": match["name"], **fields}, shape)
