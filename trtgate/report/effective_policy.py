"""A policy as TOML in which every key stands with its value, its meaning and its limits: `trtgate policy` prints it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WIDTH = 120
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def toml_of(policy: BaseModel) -> str:
    """The whole policy; reading it back makes an equal one.

    Args:
        policy: a section and all below it.
    """
    return "\n".join(_section(policy, "")).strip("\n") + "\n"


def _section(section: BaseModel, path: str) -> Iterator[str]:
    """A table: its own keys, then the tables below it."""
    below = {name: field for name, field in type(section).model_fields.items() if _is_below(section, name)}
    if path:
        yield from ("", *_comment(_summary(type(section))), f"[{path}]")
    for name, field in type(section).model_fields.items():
        if name not in below:
            yield from _key(name, getattr(section, name), field)
    for name, field in below.items():
        yield from _below(f"{path}.{name}".strip("."), getattr(section, name), field)


def _is_below(section: BaseModel, name: str) -> bool:
    kept = isinstance(getattr(section, name), BaseModel | Mapping)
    return kept or _models(type(section).model_fields[name]) is not None


def _below(path: str, value: Any, field: FieldInfo) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from _section(value, path)
    elif isinstance(value, Mapping):
        yield from _mapping(path, value, field)
    else:
        yield from _entries(path, value, field)


def _mapping(path: str, value: Mapping[Any, Any], field: FieldInfo) -> Iterator[str]:
    """A table whose keys are names, such as precisions, and whose values are plain or tables themselves."""
    model = _models(field)
    if model is None:
        yield from ("", *_comment(field.description or ""), f"[{path}]")
        yield from (f"{name} = {_toml(entry)}" for name, entry in value.items())
        return
    yield from _explained(f"[{path}.NAME]", model)
    for name, entry in value.items():
        yield from _entry(f"[{path}.{name}]", entry)


def _entries(path: str, entries: tuple[BaseModel, ...], field: FieldInfo) -> Iterator[str]:
    """A list of tables."""
    model = _models(field)
    assert model is not None
    yield from _explained(f"[[{path}]]", model)
    for entry in entries:
        yield from _entry(f"[[{path}]]", entry)


def _explained(heading: str, model: type[BaseModel]) -> Iterator[str]:
    """What the keys of tables of one kind mean, once for all of them."""
    yield from ("", *_comment(_summary(model)), f"# {heading}")
    for name, key in model.model_fields.items():
        default = "required" if key.is_required() else f"default {_toml(key.get_default(call_default_factory=True))}"
        yield from _comment(f"{name}: {_meaning(key)} ({default})")


def _entry(heading: str, entry: BaseModel) -> Iterator[str]:
    """One of several tables, with the keys that it was given."""
    yield heading
    given = (name for name in type(entry).model_fields if name in entry.model_fields_set)
    yield from (f"{name} = {_toml(getattr(entry, name))}" for name in given)


def _key(name: str, value: Any, field: FieldInfo) -> Iterator[str]:
    default = field.get_default(call_default_factory=True)
    changed = "" if value == default else f"; default {_toml(default)}"
    yield from _comment(f"{_meaning(field)}{changed}")
    yield f"{name} = {_toml(value)}"


def _meaning(field: FieldInfo) -> str:
    """What a key means, which values it takes, and between which limits."""
    told = [field.description or ""]
    if choices := _choices(field.annotation):
        told.append(f"one of {', '.join(choices)}")
    limits = [
        f"{word} {getattr(one, name):g}"
        for one in field.metadata
        for name, word in _BOUNDS.items()
        if hasattr(one, name)
    ]
    if limits:
        told.append(" and ".join(limits))
    return "; ".join(part for part in told if part)


def _choices(annotation: Any) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return next((found for part in get_args(annotation) if (found := _choices(part))), ())


def _models(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a list's or a mapping's tables, None where it holds plain values."""
    parts = get_args(field.annotation) if get_origin(field.annotation) in (tuple, dict) else ()
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split()).replace("``", "'")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False)


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum | str):
        text = json.dumps(str(value.value if isinstance(value, Enum) else value), ensure_ascii=False)
        return text.replace("\x7f", "\\u007f")  # the one character that JSON leaves bare and TOML does not
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
