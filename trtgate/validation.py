"""What pydantic and a version number say against a file, for errors in the words of that file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from trtgate.errors import RecordError


def first_problem(error: ValidationError, whole: str) -> str:
    """Where the first problem is and what it is, such as ``series.count: Field required``.

    Args:
        error: of validating.
        whole: names what was validated, for a problem that is no single field's.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or whole
    return f"{where}: {first['msg']}"


def require_known_schema(data: Any, newest: int, kind: str, source: str) -> None:
    """Refuse what a newer release wrote.

    Args:
        data: parsed JSON; what is no object, or has no number, is its validation's to refuse.
        newest: schema that this release reads.
        kind: of what the schema is, for the message.
        source: where it came from, for the message.

    Raises:
        RecordError: its schema is newer.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > newest:
        raise RecordError(
            f"{source} has {kind} schema {version}; this release reads up to {newest}.",
            "Install the trtgate release that wrote it, or a newer one.",
        )
