"""What a policy file has wrong, in the words of that file: pydantic's errors name Python's types instead."""

from __future__ import annotations

import difflib
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
    location, kind, value = first["loc"], first["type"], first.get("input")
    if kind == "extra_forbidden":
        missing = [one["loc"][-1] for one in found if one["type"] == "missing" and one["loc"][:-1] == location[:-1]]
        return PolicyError(f"{path}: unknown key '{_dotted(location)}'.", _nearest(location, root, missing))
    if kind == "missing":
        number = next((f" number {part + 1}" for part in reversed(location) if isinstance(part, int)), "")
        return PolicyError(f"{path}: {_table(location[:-1])}{number} needs '{location[-1]}'.", "Add that key.")
    name = ".".join(str(part) for part in location if not isinstance(part, int))
    if kind == "tuple_type" and isinstance(value, dict):
        return PolicyError(f"{path}: [{name}] is one table where several may stand.", f"Write [[{name}]].")
    if kind in ("model_type", "dict_type") and isinstance(value, list):
        return PolicyError(f"{path}: [[{name}]] is a list of tables where one may stand.", f"Write [{name}].")
    says = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    # A rule about several keys is broken by a whole table, which the message names by its key alone.
    seen = "" if isinstance(value, dict) else f" is {value!r}"
    return PolicyError(f"{path}: {_dotted(location)}{seen}: {says}.", "Correct that value.")


_ORDER = {"extra_forbidden": 0, "missing": 1}


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


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
