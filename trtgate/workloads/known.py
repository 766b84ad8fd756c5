"""What is known of the registered workloads: plain names and sizes, which travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Known:
    """The workloads that cases can name.

    Attributes:
        tokens: by name, tokens an input where a case does not say; None without that dimension, 0 where only making the
            workload would tell.
        project: those that the project's own module registers.
        complete: whether there are no others.
    """

    tokens: Mapping[str, int | None]
    project: tuple[str, ...] = ()
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return {"tokens": dict(self.tokens), "project": list(self.project)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Self:
        """Read what `to_json` wrote; None, from a worker that does not tell, is nothing known."""
        if data is None:
            return cls({}, complete=False)
        return cls(dict(data["tokens"]), tuple(data["project"]))
