"""What a policy file has wrong, in the words of that file: pydantic's errors name Python's types instead."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from trtgate.errors import PolicyError

Location: TypeAlias = tuple[int | str, ...]


def explain(path: Path, error: ValidationError, root: type[BaseModel]) -> PolicyError:
    """The error of a file that helps most: a misspelt key comes before the required key that it left missing.

    Args:
        path: the file.
        error: of validating it.
        root: the model that it was validated against.
    """
    found: list[Any] = list(error.errors())
    first = min(found, key=lambda one: _ORDER.get(one["type"], len(_ORDER)))
    location, kind, value = _place(first["loc"]), first["type"], first.get("input")
    if kind == "extra_forbidden":
        missing = [one["loc"][-1] for one in found if one["type"] == "missing" and one["loc"][:-1] == location[:-1]]
        return PolicyError(f"{path}: unknown key {_quoted(location)}.", _nearest(location, root, missing))
    if kind == "missing":
        number = next((f" number {part + 1}" for part in reversed(location) if isinstance(part, int)), "")
        return PolicyError(f"{path}: {_table(location[:-1])}{number} needs '{location[-1]}'.", "Add that key.")
    if first["loc"][-1] == _KEY:  # a table whose keys are precisions
        return PolicyError(f"{path}: unknown key {_quoted(location)}.", _choice(first, "Known keys there: "))
    name = ".".join(str(part) for part in location if not isinstance(part, int))
    if kind == "tuple_type" and isinstance(value, dict):
        return PolicyError(f"{path}: [{name}] is one table where several may stand.", f"Write [[{name}]].")
    if kind in _TABLES and isinstance(value, list):
        return PolicyError(f"{path}: [[{name}]] is a list of tables where one may stand.", f"Write [{name}].")
    # A rule about several keys is broken by a whole table, which the message names by its key alone.
    seen = "" if isinstance(value, dict) else f" is {value!r}"
    wrong, fix = _value(first)
    return PolicyError(f"{path}: {_named(location)}{seen}{wrong}.", fix)


def broken_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> PolicyError:
    """The error of a file that is no TOML.

    Args:
        path: the file.
        text: what it holds.
        error: of parsing it; it names a line, or the end of the file.
    """
    fix = "Mend that line."
    if "line" not in str(error):
        last = max(1, len(text.splitlines()))
        fix = f"Look at its last lines, up to line {last}: something there is left open or repeated."
    return PolicyError(f"{path} is not valid TOML: {error}.", fix)


_ORDER = {"extra_forbidden": 0, "missing": 1}
_KEY = "[key]"
_TABLES = ("model_type", "dict_type")
_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
# What the kinds of error ask for, and how that is written.
_NEEDED = {
    "tuple_type": ("a list", "Write it in [ ]."),
    "string_type": ("text", "Write it in quotes."),
    "model_type": ("a table", "Write its keys below a line with its name in [ ]."),
    "dict_type": ("a table", "Write its keys below a line with its name in [ ]."),
    "finite_number": ("a finite number", "Correct that value."),
    "int_from_float": ("a whole number", "Correct that value."),
    **dict.fromkeys(("int_type", "int_parsing"), ("a whole number", "Write it without quotes.")),
    **dict.fromkeys(("float_type", "float_parsing"), ("a number", "Write it without quotes.")),
    "string_too_short": ("some text", "Say why in a sentence."),
}


def _value(found: Any) -> tuple[str, str]:
    """What is wrong with a value, to follow the value, and what to do."""
    kind, context = found["type"], found.get("ctx", {})
    if kind in ("enum", "literal_error"):
        return ", which is not known", _choice(found, "Use one of: ")
    for name, word in _BOUNDS.items():
        if name in context:
            return f", which is not {word} {context[name]:g}", "Correct that value."
    if kind in _NEEDED:
        needed, fix = _NEEDED[kind]
        return f", and {needed} is needed", fix
    # A rule of our own; its sentences may hold their own fix.
    return f": {str(found['msg']).removeprefix('Value error, ').rstrip('.')}", "Correct that value."


def _choice(found: Any, introduction: str) -> str:
    known = re.findall(r"'([^']*)'", str(found["ctx"]["expected"]))
    near = difflib.get_close_matches(str(found["input"]), known, n=1)
    return (f"Did you mean '{near[0]}'? " if near else "") + f"{introduction}{', '.join(known)}."


def _place(location: Location) -> Location:
    """Where in the file: without pydantic's marks for keys and for members of a union."""
    marks = (_KEY, "str", "tuple[str, ...]")
    return location[:-1] if len(location) > 1 and location[-1] in marks else location


def _named(location: Location) -> str:
    """A key as a person finds it: ``measure.seconds``, or ``at_least of [[floor]] number 2``."""
    table, key = _split(location)
    return f"{key} of {table}" if key and table else key or table


def _quoted(location: Location) -> str:
    table, key = _split(location)
    return f"'{key}' of {table}" if table else f"'{key}'"


def _split(location: Location) -> tuple[str, str]:
    """The table of a list that holds a key, counted from one as in the file, and the key; without a list, no table."""
    first = next((place for place, part in enumerate(location) if isinstance(part, int)), None)
    name = ".".join(map(str, location[:first]))
    if first is None:
        return "", name
    number = f"number {int(location[first]) + 1}"
    if first + 1 == len(location):
        return "", f"{name} {number}"  # a list of values
    return f"[[{name}]] {number}", ".".join(part for part in location[first + 1 :] if isinstance(part, str))


def _table(location: Location) -> str:
    name = ".".join(part for part in location if isinstance(part, str))
    return f"[[{name}]]" if any(isinstance(part, int) for part in location) else f"[{name}]"


def _nearest(location: Location, root: type[BaseModel], missing: list[str]) -> str:
    """Walk the models along an unknown key's path and name the key that is closest to it, a missing one before all."""
    model = root
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _section_of(field.annotation) or model
    known = sorted(model.model_fields)
    key = str(location[-1])
    near = difflib.get_close_matches(key, missing, n=1) or difflib.get_close_matches(key, known, n=1)
    return (f"Did you mean '{near[0]}'? " if near else "") + f"Known keys there: {', '.join(known)}."


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
