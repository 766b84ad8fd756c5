"""Margins, error rates and numbers of pairs, each with its reason: the section ``[judge]`` of trtgate.toml."""

from __future__ import annotations

import fnmatch
from typing import Literal, Self

from pydantic import Field, model_validator

from trtgate.case import Case, Execution, Quantity
from trtgate.policy.section import Reason, Section


class MarginSettings(Section):
    """How much worse a quantity may become before it is a regression, as a fraction: 0.01 is 1%."""

    device: float = Field(default=0.01, gt=0, le=1, description="one and a half times the worst pair sd measured")
    latency: float = Field(default=0.05, gt=0, le=1, description="the host's scheduling moves a wait by a few per cent")
    throughput: float = Field(default=0.05, gt=0, le=1, description="as latency: the host feeds the queue")
    build: float = Field(default=0.5, gt=0, le=10, description="builds take 0.2 - 0.8 s; autotuning makes them random")
    plan: float = Field(
        default=0.05, ge=0, le=10, description="tactics differ from build to build, and bytes with them"
    )
    memory: float = Field(default=0.02, ge=0, le=10, description="allocators round up; a new workspace is larger")
    parity: float = Field(default=1.0, ge=0, le=100, description="an error may double: roundings differ by tactic")
    optimisation: float = Field(
        default=0.0, ge=0, le=1, description="more kernels, casts and reformats; what is named by node counts always"
    )


class CaseMargin(Section):
    """A margin for some cases, which wins over the quantity's own. The last entry that applies counts."""

    case: str = Field(description="shell pattern for case ids")
    quantity: Quantity = Field(description="that the margin is for")
    margin: float = Field(gt=0, le=10, description="as a fraction: 0.1 is 10%")
    reason: Reason


class StoredSettings(Section):
    """Spread between processes, which two stored runs of one process each cannot show themselves.

    Standard deviations of a process's log median, from 12 fresh processes of 4 models on an H100: the largest measured.
    """

    graph: float = Field(default=0.029, gt=0, description="CUDA graphs: 0.15 - 2.9% between processes")
    stream: float = Field(default=0.24, gt=0, description="engines enqueued one at a time: 1.5 - 24%")
    host_bound: float = Field(default=0.31, gt=0, description="eager, host-bound, and every latency: 16 - 31%")
    build: float = Field(default=0.3, gt=0, description="no measurement yet: as host-bound work")


class TrendSettings(Section):
    """When a case's history is said to have changed."""

    min_runs: int = Field(default=3, ge=2, description="on each side of a step; one or two odd runs are spikes")
    most_runs: int = Field(default=1000, ge=10, description="newest runs looked at: three years of nights")
    false_alarm_rate: float = Field(
        default=0.001, gt=0, lt=0.5, description="of one history; thousands of cases are looked at every night"
    )
    min_change: float = Field(default=0.005, ge=0, description="smaller steps are true and not worth a person's time")
    confidence: float = Field(default=0.99, gt=0.5, lt=1, description="of the interval of a change's size")


class JudgeSettings(Section):
    """Error rates of the pull-request gate and the pairs of processes that buy them (docs/statistics.md)."""

    false_failure_rate: float = Field(
        default=0.01, gt=0, lt=0.5, description="of a whole suite: one false red in 100 pull requests is bearable"
    )
    first_look_share: float = Field(
        default=0.2, gt=0, lt=1, description="of that rate spent after the first pairs; large regressions end there"
    )
    first_pairs: int = Field(default=8, ge=3, description="finds +3% in most cases at once (docs/statistics.md)")
    extension_pairs: int = Field(
        default=12, ge=3, description="fresh pairs, judged alone: +2% at a pair sd of 0.68% in 80% of a suite's cases"
    )
    candidate_level: float = Field(
        default=0.2, gt=0, le=0.5, description="cases this suspicious after the first pairs are confirmed; lenient"
    )
    false_same_rate: float = Field(
        default=0.05, gt=0, lt=0.5, description="of one case whose true change is exactly the margin"
    )
    trimmed_share: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="of that rate at the second look, spent on the mean without its outermost pairs: one odd pair in "
        "twenty must not stop a gate",
    )
    power: float = Field(default=0.95, gt=0.5, lt=1, description="at which a resolvable effect is stated")
    least_pair_sd: float = Field(
        default=0.001, gt=0, description="a smaller sample sd is luck: the smallest measured over 10 pairs is 0.27%"
    )
    least_parity_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="of the bound on the base's error, which smaller errors count as: exact or a few roundings off is "
        "all the same",
    )
    least_memory_bytes: int = Field(
        default=2**21,
        ge=0,
        description="what less counts as, and what a change must exceed: a device hands memory out in steps of 2 MiB, "
        "and whether a small piece takes a new one changes from run to run (2 of 96 rows, by one step, on an H100)",
    )
    passes: tuple[Literal["same", "faster", "new"], ...] = Field(
        default=("same", "faster"), description="a win is named and passes; leave 'faster' out to have it explained"
    )
    aa_pairs: int = Field(default=8, ge=3, description="of identical code, as many as the first look has")
    aa_false_alarm_rate: float = Field(default=0.01, gt=0, lt=0.5, description="of a whole suite of A/A comparisons")
    aa_tolerance: float = Field(
        default=0.5, ge=0, lt=1, description="of the margin: a bias below half of it cannot fake a verdict"
    )
    aa_max_half_width_margins: float = Field(
        default=2.0,
        gt=0,
        description="in margins of what is judged; where even the steadiest quarter of the suite is worse, no verdict",
    )
    spread_warning: float = Field(
        default=0.25,
        gt=0,
        description="interquartile range over median beyond which reports mark a time with '?'; torch.utils.benchmark "
        "calls 25% a significant influence of the environment (_IQR_GROSS_WARN_THRESHOLD) and 10% fluctuation",
    )
    aa_fewest_steady: int = Field(
        default=4, ge=1, description="graphed device times that can condemn a machine: a quarter of fewer is one case"
    )
    margin: MarginSettings = MarginSettings()
    case_margin: tuple[CaseMargin, ...] = ()
    stored: StoredSettings = StoredSettings()
    trend: TrendSettings = TrendSettings()

    @model_validator(mode="after")
    def _same_always_passes(self) -> Self:
        if "same" not in self.passes:
            raise ValueError("'passes' must hold 'same': a gate that nothing can pass tells nothing")
        return self

    @model_validator(mode="after")
    def _the_arm_is_complete_after_the_first_look(self) -> Self:
        if self.aa_pairs > self.first_pairs:
            raise ValueError(
                f"'aa_pairs' is {self.aa_pairs} and 'first_pairs' {self.first_pairs}: a gate that the first look ends "
                "would never have its A/A arm"
            )
        return self

    def margin_for(self, case: str, quantity: Quantity) -> float:
        """The margin of one case's quantity, as a fraction."""
        margin: float = getattr(self.margin, quantity.value, 0.0)
        for entry in self.case_margin:
            if entry.quantity == quantity and fnmatch.fnmatchcase(case, entry.case):
                margin = entry.margin
        return margin

    def between_process_sd(self, case: Case, quantity: Quantity) -> float:
        """Standard deviation of a log median between processes, for runs that hold one process each."""
        if quantity is Quantity.BUILD:
            return self.stored.build
        if case.execution is Execution.GRAPH and quantity is Quantity.DEVICE:
            return self.stored.graph
        if quantity is Quantity.DEVICE and case.backend in ("tensorrt_engine", "torch_tensorrt"):
            return self.stored.stream
        return self.stored.host_bound
