"""Limits of the history: the section ``[store]`` of trtgate.toml."""

from __future__ import annotations

from pydantic import Field

from trtgate.policy.section import Section


class StoreSettings(Section):
    """Limits of the history."""

    max_file_bytes: int = Field(
        default=256 * 2**20, ge=1, description="the default matrix takes 5 MB; fifty times that is not a run of ours"
    )
    kept_journals: int = Field(
        default=5,
        ge=1,
        description="journals of earlier runs of one machine and stack, besides the one in progress: enough to look at "
        "what the last broken runs had measured; each takes what its run takes in the history",
    )
