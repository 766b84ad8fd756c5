"""What the lines of a journal say: how a run began, what it was about to do, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from trtgate.case import Quantity
from trtgate.errors import RecordError
from trtgate.record import Identity, Record
from trtgate.validation import first_problem, require_known_schema

SCHEMA: Final = 1
_FOREIGN: Final = "Name a journal that trtgate wrote."

Stage: TypeAlias = Literal["build", "parity", "run", "optimisation", "close", "idle"]
"""What a run is at: the stages of a known failure, closing what was built, and nothing that could take it down."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: the record, and what only a run that resumes it asks for.

    Attributes:
        node: pytest's id of the benchmark that left it, empty without pytest.
        changes: digest of what differed from the record's commit, empty where nothing did.
    """

    node: str
    record: Record
    changes: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return {"node": self.node, "changes": self.changes, "record": self.record.to_json()}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Strict):
    """What a run was about to do that can take its process down; whatever it writes next says that it lived.

    Attributes:
        stage: what it was at.
        cases: whose code was to be called; of several, which take turns, one at a time.
        node: pytest's id of the test that asked for it.
        quantity: what was to be timed.
    """

    stage: Stage
    cases: tuple[str, ...] = ()
    node: str = ""
    quantity: Quantity | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types only; defaults are left out."""
        return {"mark": self.model_dump(mode="json", exclude_defaults=True)}


class Start(_Strict):
    """The first line of a run, or of one that goes on with it.

    Attributes:
        identity: machine and stack.
        commit: revision of the measured tree, None where nobody said.
        changes: digest of what differs from that revision, empty where nothing does.
        died: what the process of the run before was at when it died, None where it ended or did not say.
    """

    schema_version: Literal[1] = SCHEMA
    identity: Identity
    commit: str | None = None
    changes: str = ""
    died: Mark | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types only; defaults are left out."""
        return {"start": {"schema_version": SCHEMA, **self.model_dump(mode="json", exclude_defaults=True)}}


Line: TypeAlias = Entry | Mark | Start


def parse(data: Any, source: str) -> Line:
    """A line from its JSON.

    Args:
        data: the parsed JSON.
        source: where it came from, for the message.

    Raises:
        RecordError: it is no line of a journal, or one of a newer release.
    """
    older = {"changes": ""}  # what a row of an older release lacks
    match data:
        case {"mark": told, **rest} if not rest:
            return _validated(Mark, told, source)
        case {"start": told, **rest} if not rest:
            require_known_schema(told, SCHEMA, "journal", source)
            return _validated(Start, told, source)
    match older | data if isinstance(data, dict) else data:
        case {"node": str(node), "changes": str(changes), "record": record, **rest} if not rest:
            return Entry(node, Record.from_json(record, source), changes)
    raise RecordError(f"{source} is not a journal entry.", _FOREIGN)


def _validated(kind: type[Mark] | type[Start], told: Any, source: str) -> Mark | Start:
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        problem = first_problem(error, "the line")
        raise RecordError(f"{source} is not a journal entry: {problem}.", _FOREIGN) from None
