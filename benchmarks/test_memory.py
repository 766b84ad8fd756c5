"""Memory that building a model and its first inference take, by each way to build it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixtures.recorder import Recorder
    from trtgate.case import Case


def test_memory(case: Case, recorder: Recorder) -> None:
    assert recorder.memory(case) > 0
