"""Proof that a build still computes the same thing, on every output and several batches of realistic inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixtures.recorder import Recorder
    from trtgate.case import Case


def test_parity(case: Case, recorder: Recorder) -> None:
    parity = recorder.prove(case)
    assert parity.passed, parity.message
