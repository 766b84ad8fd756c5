"""Limits of the history: the section ``[store]`` of trtgate.toml."""

from __future__ import annotations

from pydantic import Field

from trtgate.policy.section import Section


class StoreSettings(Section):
    """Limits of the history."""

    max_file_bytes: int = Field(
        default=256 * 2**20, ge=1, description="the default matrix takes 5 MB; fifty times that is not a run of ours"
    )
