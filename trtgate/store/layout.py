"""Which layout a store of many runs has.

Each layout has a place of its own, a folder or a table, so that releases that write another never mix with it:

1. without hosts: times of different hosts stood in one history, whose steps were blamed on commits;
2. a ``host`` column, by which histories are kept apart;
3. the host tells of device times which reading of the clock they are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from trtgate.errors import RecordError, StorageError

LAYOUT: Final = 3


def require_readable(found: Collection[int], place: str) -> None:
    """Refuse to read a store in which nothing is of this release's layout.

    Args:
        found: the layouts that it holds.
        place: the store, for the message.

    Raises:
        StorageError: it holds nothing.
        RecordError: it is of an older or of a newer layout.
    """
    require_not_newer(found, place)
    if not found:
        raise StorageError(f"{place} holds no trtgate records.", "Fill it with 'trtgate trend --ingest'.")
    if LAYOUT not in found:
        raise RecordError(
            f"{place} has store layout {max(found)}, which keeps less apart; this release reads {LAYOUT}.",
            "Add the runs again with 'trtgate trend --ingest'; what is there stays as it is.",
        )


def require_not_newer(found: Collection[int], place: str) -> None:
    """Refuse a store into which a newer release has written.

    Raises:
        RecordError: it has.
    """
    newest = max(found, default=LAYOUT)
    if newest > LAYOUT:
        raise RecordError(
            f"{place} has store layout {newest}; this release reads up to {LAYOUT}.",
            "Install the trtgate release that wrote it, or a newer one.",
        )
