"""How rows are timed: the section ``[measure]`` of trtgate.toml."""

from __future__ import annotations

from pydantic import Field

from trtgate.policy.section import Section


class MeasureSettings(Section):
    """How long and how carefully a quantity is timed."""

    min_rounds: int = Field(default=20, ge=5, description="below 20 rounds a median's interval is wider than 1% here")
    max_rounds: int = Field(default=200, ge=5, description="more rounds than this tell nothing new about one process")
    seconds: float = Field(
        default=0.1, gt=0, description="time budget of one quantity for each way that takes turns, warm-up excluded"
    )
    patience_seconds: float = Field(
        default=2.0, gt=0, description="rounds go on for this long while a speedup is less certain than fair_half_width"
    )
    max_seconds: float = Field(
        default=20.0, gt=0, description="beyond it a slow model gets fewer rounds, and a wide interval says so"
    )
    target_half_width: float = Field(default=0.005, gt=0, description="stop early once every ratio is this certain")
    fair_half_width: float = Field(
        default=0.25,
        gt=0,
        description="an interval that reaches further than this share of its ratio says next to nothing",
    )
    block_rounds: int = Field(default=10, ge=1, description="rounds between two looks at the GPU's clocks")
    warmup_seconds: float = Field(default=2.0, gt=0, description="warm-up gives up on steadiness after this long")
    steady_within: float = Field(default=0.02, gt=0, description="two windows of warm-up medians this close are steady")
    warmup_window_rounds: int = Field(
        default=5, ge=3, description="fewest samples a warm-up window; three are the least that have a spread"
    )
    warmup_window_seconds: float = Field(
        default=0.025,
        gt=0,
        description="shortest warm-up window; five graph replays end before a GPU's clocks have moved",
    )
    max_discarded_blocks: int = Field(default=10, ge=0, description="more throttled blocks than this fail the case")
    throughput_seconds: float = Field(
        default=0.01, gt=0, description="length of one back-to-back burst: a thousand times a clock's resolution"
    )
    min_burst: int = Field(
        default=10, ge=2, description="inferences a burst on a GPU: the last one's synchronisation is under a tenth"
    )
    min_burst_cpu: int = Field(default=2, ge=1, description="inferences a burst on a CPU, where each ends by itself")
    spacer_seconds: float = Field(
        default=2e-4, gt=0, description="first length of the kernel that holds the stream: ten launches of a CUDA graph"
    )
    max_spacer_seconds: float = Field(
        default=0.02,
        gt=0,
        description="work not queued behind this is host-bound: ungraphed eager models take up to 6 ms to launch",
    )
    confidence: float = Field(default=0.99, gt=0.5, lt=1, description="of every interval that is printed or asserted")
