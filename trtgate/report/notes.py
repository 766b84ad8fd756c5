"""Why rows are what they are: what several of them share is told once, and of each only what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trtgate.case import Case
from trtgate.errors import UsageError
from trtgate.record import with_seen
from trtgate.report.rows import CASE, Row, named


@dataclass(frozen=True, slots=True)
class Told:
    """What is left to say of one row, or of several of which the same is to be said."""

    text: str
    rows: tuple[Row, ...]

    @property
    def sentence(self) -> str:
        """It, with the case or cases of which it is told."""
        cases = [row.case for row in self.rows]
        return f"{cases[0]}: {self.text}" if len(cases) == 1 else f"{len(cases)} x {self.text} ({named(cases)})"


@dataclass(frozen=True, slots=True)
class NoteGroup:
    """Rows of one verdict and one reason, in which `CASE` stands for each one's own id where they are several.

    Attributes:
        verdict: of all of them.
        note: what they share; ends with a colon where `told` goes on with it.
        rows: at least one.
        told: what was seen of each; empty where the note says all there is.
    """

    verdict: str
    note: str
    rows: tuple[Row, ...]
    told: tuple[Told, ...] = ()

    @property
    def cases(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(row.case for row in self.rows)


class SharedReasons:
    """Reasons that known failures share, with a number: for tables, in which each row has a cell of its own.

    Args:
        rows: of one table, or of several that stand together.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        groups = [group for group in group_notes(row for row in rows if row.seen) if len(group.rows) > 1]
        self.sentences = [
            f"Reason {number}, of {len(group.rows)} rows: {group.note}" for number, group in enumerate(groups, start=1)
        ]
        self._cells = {
            _key(row): f"see reason {number}." for number, group in enumerate(groups, 1) for row in group.rows
        }
        for told in (told for group in groups for told in group.told):
            self._cells |= {_key(row): f"{self._cells[_key(row)]} {_for(row, told.text)}" for row in told.rows}

    def cell(self, row: Row) -> str:
        """Why a row is what it is, in its own cell; empty where nothing needs saying."""
        return self._cells.get(_key(row), row.why)


def group_notes(rows: Iterable[Row]) -> list[NoteGroup]:
    """Join rows by verdict and reason, in the order in which these first appear; rows without a note are left out."""
    groups: dict[tuple[str, str, bool], list[Row]] = {}
    for row in rows:
        if row.why:
            groups.setdefault((row.verdict, _nameless(row, row.note), bool(row.seen)), []).append(row)
    return [_group(verdict, note, found) for (verdict, note, _), found in groups.items()]


def _group(verdict: str, note: str, rows: Sequence[Row]) -> NoteGroup:
    if len(rows) == 1:
        return NoteGroup(verdict, rows[0].why, tuple(rows))
    by_seen: dict[str, list[Row]] = {}
    for row in rows:
        by_seen.setdefault(_nameless(row, row.seen), []).append(row)
    if len(by_seen) == 1:
        (seen,) = by_seen
        return NoteGroup(verdict, with_seen(note, seen) if seen else note, tuple(rows))
    opening, told = _shortened(by_seen)
    return NoteGroup(verdict, with_seen(note, opening).rstrip(), tuple(rows), told)


def _shortened(by_seen: Mapping[str, Sequence[Row]]) -> tuple[str, tuple[Told, ...]]:
    """How all that was seen begins, and of each row what is left: no word of it that is not said elsewhere is lost."""
    words = [seen.split(" ") for seen in by_seen]
    shared = _shared_clauses(words)
    advised: set[str] = set()
    told = []
    for rest, rows in zip(words, by_seen.values(), strict=True):
        text = _without_repeated_advice(" ".join(rest[shared:]), rows[0], advised)
        told.append(Told(_for(rows[0], text) if len(rows) == 1 else text, tuple(rows)))
    return " ".join(words[0][:shared]), tuple(told)


def _shared_clauses(texts: Iterable[Sequence[str]]) -> int:
    """How many words at their beginning texts have in common, up to a colon: what follows it can stand alone."""
    shared = 0
    for number, words in enumerate(zip(*(text[:-1] for text in texts), strict=False), start=1):
        if len(set(words)) > 1:
            break
        if words[0].endswith(":"):
            shared = number
    return shared


def _without_repeated_advice(text: str, row: Row, advised: set[str]) -> str:
    """Leave out the last sentence where a row above has said it already, whatever cases it names.

    An error's last sentence says what to do (`trtgate.errors`), with the id of this case or of one in its cell.
    """
    problem, stop, advice = text.rpartition(". ")
    kind = " ".join(CASE if _is_case(word) else word for word in _for(row, advice).replace("'", " ' ").split())
    if not stop or kind not in advised:
        advised.add(kind)
        return text
    return f"{problem}."


def _is_case(word: str) -> bool:
    try:
        Case.parse(word.rstrip(".,:;"))
    except UsageError:
        return False
    return True


def _nameless(row: Row, text: str) -> str:
    return text.replace(row.case, CASE)


def _for(row: Row, text: str) -> str:
    return text.replace(CASE, row.case)


def _key(row: Row) -> tuple[str, str, str, str]:
    return (row.case, row.verdict, row.note, row.seen)
