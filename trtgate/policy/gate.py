"""What the pull-request gate does: the section ``[gate]`` of trtgate.toml. Its decisions: `trtgate.policy.judge`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from trtgate.case import Case, Quantity
from trtgate.errors import TrtgateError
from trtgate.policy.section import Section

TIMED = (Quantity.DEVICE, Quantity.LATENCY)
"""Quantities of which a gate takes samples in turns."""


class GateSettings(Section):
    """The `[gate]` section."""

    cases: tuple[str, ...] = Field(
        default=(),
        description="case ids; empty for the project's own workloads, or where it registers none trtgate's default "
        "ones: graphed on a GPU, small on a CPU",
    )
    quantities: tuple[Quantity, ...] = Field(
        default=(), description="what is judged; empty for device time (latency on a CPU) and parity"
    )
    groups: int = Field(
        default=2, ge=1, description="balanced groups of turns a pair; each gives every side two blocks (ABBA)"
    )
    block_rounds: int = Field(
        default=25, ge=5, description="samples a block; with four blocks 100 a side, whose median is good to 0.1% here"
    )
    renew_build_every: int = Field(
        default=1,
        ge=1,
        description="pairs that share engine builds; builds differ by luck, and pairs that share one are no longer "
        "independent: more than 1 only where builds take minutes, and the report then says so",
    )
    builds: int = Field(
        default=5,
        ge=1,
        description="engine builds a side where nothing is timed: the median of five is not decided by two of them. "
        "Where something is timed every pair of processes has builds of its own",
    )
    inspected_builds: int = Field(
        default=3,
        ge=1,
        description="engine builds a side whose layers are told, which takes another build each; a change counts where "
        "most of them agree",
    )
    crews_at_once: int = Field(
        default=4,
        ge=1,
        le=8,
        description="pairs whose processes start together; starting and building is most of a gate's time, and they "
        "wait idle for their turn, so only memory limits this. On a CPU fewer: a core for each process",
    )
    cases_at_once: int = Field(
        default=8, ge=1, description="cases that a process holds at the same time; fewer where GPU memory is short"
    )
    timeout_seconds: float = Field(
        default=900.0, gt=0, description="a worker silent for longer hangs; a cold ahead-of-time compile takes minutes"
    )
    setup: tuple[str, ...] = Field(
        default=(), description="command and arguments run in every checked-out side first, such as a build step"
    )

    @field_validator("cases")
    @classmethod
    def _are_case_ids(cls, cases: tuple[str, ...]) -> tuple[str, ...]:
        for text in cases:
            try:
                Case.parse(text)
            except TrtgateError as error:
                raise ValueError(str(error)) from None
        if len(set(cases)) != len(cases):
            raise ValueError("a case is listed twice")
        return cases

    @model_validator(mode="after")
    def _something_is_judged(self) -> Self:
        if Quantity.THROUGHPUT in self.quantities:
            raise ValueError("a gate does not judge throughput: judge device time and latency")
        return self
