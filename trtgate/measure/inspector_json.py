"""Read the JSON that TensorRT's engine inspector prints: 10.x, 11.x and TensorRT-RTX key styles.

Styles (anchored in the samples under tests/data and in NVIDIA's "Engine Inspector" documentation):

- 10.x and TensorRT-RTX 1.4: "Format/Datatype" holds ``Half`` (Myelin) or ``Row major linear FP16 format``; "Bindings".
- 11.x and TensorRT-RTX 1.5 and newer: "Datatype" (or "DataType") beside "Format"; "I/O Tensors", "Constants".

torch-tensorrt's ``get_layer_info()`` is the same JSON; a module of several engines makes a list of such documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from trtgate.errors import InspectionError
from trtgate.measure.census import WEIGHTS, Census, Datatype, Layer, Role, TensorUse, datatype_of
from trtgate.measure.layer_kinds import multiplies_rows, operations_of, role_of, sources_of, tactic_of

REBUILD: Final = (
    "Build it again with IBuilderConfig.profiling_verbosity = ProfilingVerbosity.DETAILED "
    "(torch-tensorrt: compile inside torch_tensorrt.dynamo.Debugger(save_engine_profile=True))."
)


def parse_inspector_json(
    text: str, *, origin: Literal["inspector", "torch_tensorrt"] = "inspector", runtime: str = ""
) -> Census:
    """Turn the inspector's JSON into a census (without source nodes).

    Args:
        text: what ``inspector.get_engine_information(LayerInformationFormat.JSON)`` or ``get_layer_info()`` returned.
        origin: who told.
        runtime: flavour and version, for the record.

    Raises:
        InspectionError: not JSON, no layers, or an engine that was built without detailed verbosity.
    """
    data = _loaded(text)
    if isinstance(data, list) and data and all(isinstance(item, dict) and "Layers" in item for item in data):
        # One document an engine, as `trtgate inspect --raw` writes of a torch-tensorrt module.
        parts = [item["Layers"] for item in data]
        origin = "torch_tensorrt"
        data = [layer for part in parts for layer in part] if all(isinstance(part, list) for part in parts) else []
    layers = data.get("Layers") if isinstance(data, dict) else data
    if not isinstance(layers, list) or not layers:
        raise InspectionError(
            f"The inspector's output holds no layers: {text[:60]!r}.",
            f"The engine was built with profiling verbosity NONE, or this is another file. {REBUILD}",
        )
    return Census(origin=origin, runtime=runtime, layers=tuple(_layer(item) for item in layers))


def _loaded(text: str) -> Any:
    """Parse text that may hold anything.

    Raises:
        InspectionError: not JSON, nested too deep, with a number of thousands of digits, or with half a character.
    """
    try:
        data = json.loads(text)
        # Half of a surrogate pair can be escaped in JSON, and neither printed nor stored.
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InspectionError(
            f"The inspector's output is not JSON that can be read ({reason}): {text[:60]!r}.",
            "Name a file that holds what the engine inspector printed as JSON.",
        ) from None
    return data


def _layer(item: Any) -> Layer:
    if isinstance(item, str):
        raise InspectionError(
            f"The engine tells only the names of its layers, such as '{item[:60]}': it was built with profiling "
            "verbosity LAYER_NAMES_ONLY.",
            REBUILD,
        )
    if not isinstance(item, Mapping) or "Name" not in item:
        raise InspectionError(
            f"A layer of the inspector's output is {json.dumps(item)[:60]!r}, without a name.", REBUILD
        )
    if "LayerType" not in item and "Inputs" not in item:
        raise InspectionError(f"The layer '{item['Name']}' has neither type nor tensors.", REBUILD)
    return make_layer(
        name=str(item["Name"]),
        kind=str(item.get("LayerType", "")),
        inputs=_tensors(item, "Inputs"),
        outputs=_tensors(item, "Outputs"),
        constants=_tensors(item, "Constants") + _weights(item),
        tactic=str(item.get("TacticName", "")),
        stream=_whole(item, "StreamId", item.get("StreamId") or 0),
        metadata=str(item.get("Metadata", "")),
    )


def make_layer(
    *,
    name: str,
    kind: str,
    inputs: tuple[TensorUse, ...],
    outputs: tuple[TensorUse, ...],
    constants: tuple[TensorUse, ...],
    tactic: str,
    stream: int,
    metadata: str,
) -> Layer:
    """Interpret what a runtime says of one layer: its role, operations, tactic and source nodes."""
    operations = operations_of(name)
    role = role_of(kind, name, operations)
    if role is Role.POINTWISE and multiplies_rows(operations) and any(use.is_matrix for use in constants):
        role = Role.COMPUTE
    return Layer(
        name=name,
        kind=kind,
        role=role,
        sources=sources_of(metadata, name, role),
        inputs=inputs,
        outputs=outputs,
        constants=constants,
        tactic=tactic_of(tactic),
        operations=operations,
        stream=stream,
    )


def tensor_use(fields: Mapping[str, Any], shape: tuple[int, ...]) -> TensorUse:
    """Read one tensor in any of the key styles."""
    joined = str(fields.get("Format/Datatype", ""))
    layout = str(fields.get("Format", joined if " " in joined else ""))
    kind = datatype_of(str(fields.get("Datatype") or fields.get("DataType") or joined))
    if kind is Datatype.UNKNOWN:
        kind = datatype_of(layout)
    return TensorUse(name=str(fields.get("Name", "")), shape=shape, datatype=kind, layout=layout)


def _weights(layer: Mapping[str, Any]) -> tuple[TensorUse, ...]:
    """TensorRT's own layers tell of their kernel only its type and size: ``{"Type": "Half", "Count": 9408}``."""
    item = layer.get("Weights")
    if not isinstance(item, Mapping) or not item.get("Count"):
        return ()
    count = _whole(layer, "Weights", item["Count"])
    return (TensorUse(name=WEIGHTS, shape=(count,), datatype=datatype_of(str(item.get("Type", "")))),)


def _tensors(layer: Mapping[str, Any], key: str) -> tuple[TensorUse, ...]:
    items = layer.get(key) or ()
    if not isinstance(items, (list, tuple)):
        raise _malformed(layer, key, items)
    found = []
    for item in items:
        # A constant may be a bare name in 10.x; it then has no shape or type to read.
        if not isinstance(item, Mapping):
            continue
        extents = item.get("Dimensions", [])
        if not isinstance(extents, list):
            raise _malformed(layer, key, item)
        found.append(tensor_use(item, tuple(_whole(layer, key, extent) for extent in extents)))
    return tuple(found)


def _whole(layer: Mapping[str, Any], key: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise _malformed(layer, key, value) from None
    if isinstance(value, float) and number != value:
        raise _malformed(layer, key, value)
    return number


def _malformed(layer: Mapping[str, Any], key: str, value: Any) -> InspectionError:
    return InspectionError(
        f"The layer '{layer['Name']}' of the inspector's output has {key} that cannot be read: "
        f"{json.dumps(value)[:60]}.",
        "Name a file that holds what the engine inspector printed as JSON, unchanged.",
    )
