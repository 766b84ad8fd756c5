"""Build seconds by stage, plan bytes and the first inference; without a GPU, plans built ahead of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtgate.case import BackendName

if TYPE_CHECKING:
    from fixtures.recorder import Recorder
    from trtgate.case import Case


def test_build(buildable_case: Case, recorder: Recorder) -> None:
    facts = recorder.build(buildable_case)
    assert sum(facts.stages_s.values()) > 0
    if buildable_case.backend is BackendName.TENSORRT_ENGINE:
        assert facts.plan_bytes is not None
        assert facts.plan_bytes > 0
