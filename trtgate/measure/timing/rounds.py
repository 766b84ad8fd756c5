"""Turn-taking: who is sampled when, what is thrown away, and when to stop. No torch and no clock of its own."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

import numpy as np

from trtgate.errors import MeasurementError
from trtgate.measure.timing.clock import HostClock
from trtgate.policy import MeasureSettings

_log = logging.getLogger(__name__)

Sample: TypeAlias = Callable[[], float]
"""Takes one sample and returns its seconds."""

_MAD_TO_SD = 1.4826  # standard deviation of a normal distribution, in median absolute deviations
_MEDIAN_TO_MEAN_SE = 1.2533  # sqrt(pi / 2): standard error of a median against that of a mean, normal distribution
_STANDARD_ERRORS = 2.0  # two medians this many standard errors apart differ by chance in one of twenty comparisons
_FEWEST_ROUNDS = 5  # the least that a median's interval is made from
_FIRST_PAUSE_S = 0.05  # NVBench's pause after a throttled sample; doubled each time, up to a second
_LONGEST_PAUSE_S = 1.0


class Certainty(Enum):
    """How much the samples so far say of what is to be known.

    SETTLED: more would add nothing that anybody needs. FAIR: enough to stop when the time budget is used up. UNCLEAR:
    so little that it is worth more time than that.
    """

    SETTLED = auto()
    FAIR = auto()
    UNCLEAR = auto()


Judge: TypeAlias = Callable[[Mapping[str, Sequence[float]]], Certainty]
"""Told all samples so far, by participant; says how certain they make what is to be known."""


class Watch(Protocol):
    """Tells whether the device was disturbed since the last look. `trtgate.measure.device.Monitor` is the real one."""

    def look(self) -> tuple[str, ...]:
        """Reasons to throw away what was sampled since the last look; empty when there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Rounds:
    """Samples of all participants, paired by index: sample ``i`` of each was taken in round ``i``.

    Attributes:
        samples_s: seconds, by participant.
        kept_blocks: blocks that the samples come from.
        discarded_blocks: blocks that were thrown away and taken again.
    """

    samples_s: dict[str, tuple[float, ...]]
    kept_blocks: int
    discarded_blocks: int


def checked(name: str, seconds: float) -> float:
    """A sample, if it can be one.

    Raises:
        MeasurementError: it is NaN, infinite, zero or negative.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise MeasurementError(
            f"A sample of '{name}' took {seconds} s, which is not a time.",
            "Look at its enqueue(): it did no work on the measured stream, or it failed without an error.",
        )
    return seconds


def warm_up(samples: Mapping[str, Sample], settings: MeasureSettings, clock: HostClock) -> bool:
    """Sample everyone until the medians of two successive windows agree for every participant.

    A window holds at least ``warmup_window_rounds`` rounds and lasts at least ``warmup_window_seconds``. Two medians
    agree when they are within ``steady_within`` of each other, or within two standard errors of their difference
    (estimated from the median absolute deviation): latencies of ungraphed models scatter by a third, and such medians
    would not come within 2% in any affordable time although nothing drifts.

    Returns:
        False when ``warmup_seconds`` were over first.

    Raises:
        MeasurementError: a sample is not a time.
    """
    deadline_s = clock() + settings.warmup_seconds
    before: dict[str, list[float]] | None = None
    while True:
        window = _window(samples, settings, clock, deadline_s)
        if window is None:
            return False
        if before is not None and all(_agree(before[name], window[name], settings.steady_within) for name in samples):
            return True
        before = window


def _window(
    samples: Mapping[str, Sample], settings: MeasureSettings, clock: HostClock, deadline_s: float
) -> dict[str, list[float]] | None:
    """One window of warm-up, None when the deadline passed before it was complete."""
    taken: dict[str, list[float]] = {name: [] for name in samples}
    opened_s = clock()
    rounds = 0
    while rounds < settings.warmup_window_rounds or clock() - opened_s < settings.warmup_window_seconds:
        if clock() >= deadline_s:
            return None
        for name, sample in samples.items():
            taken[name].append(checked(name, sample()))
        rounds += 1
    return taken


def _agree(before: Sequence[float], after: Sequence[float], within: float) -> bool:
    first, second = float(np.median(before)), float(np.median(after))
    return abs(second - first) <= max(
        within * first, _STANDARD_ERRORS * math.hypot(_standard_error(before), _standard_error(after))
    )


def _standard_error(window: Sequence[float]) -> float:
    """Of the window's median."""
    deviation = float(np.median(np.abs(np.asarray(window) - np.median(window))))
    return _MEDIAN_TO_MEAN_SE * _MAD_TO_SD * deviation / math.sqrt(len(window))


def take_turns(
    samples: Mapping[str, Sample],
    settings: MeasureSettings,
    watch: Watch,
    judge: Judge,
    rng: random.Random,
    clock: HostClock,
    pause: Callable[[float], None],
) -> Rounds:
    """Rounds in which everyone is sampled once, in an order that is drawn anew each time.

    After every block of ``block_rounds`` rounds the watch is asked. A disturbed block is thrown away with a warning
    and, after a pause that doubles each time, taken again.

    After ``min_rounds`` it stops as soon as the judge says SETTLED; when kept blocks have used up ``seconds`` for each
    participant, unless the judge says UNCLEAR; and at the latest after ``max_rounds`` or ``patience_seconds``. A very
    slow model is stopped after ``max_seconds`` with as few as five rounds.

    Args:
        samples: one sampler a participant.
        settings: how long.
        watch: tells of disturbances.
        judge: how much the samples so far say.
        rng: source of the order.
        clock: the host's clock.
        pause: waits for so many seconds.

    Raises:
        MeasurementError: a sample is not a time, or more than ``max_discarded_blocks`` blocks were disturbed.
    """
    taken: dict[str, list[float]] = {name: [] for name in samples}
    kept_blocks = discarded_blocks = rounds = 0
    used_s = 0.0
    watch.look()  # what happened before the first block is not this measurement's
    while True:
        began_s = clock()
        size = min(settings.block_rounds, max(settings.max_rounds, settings.min_rounds) - rounds)
        block = _block(samples, size, rng)
        reasons = watch.look()
        if reasons:
            discarded_blocks += 1
            _refuse_too_many(discarded_blocks, reasons, settings)
            pause(min(_FIRST_PAUSE_S * 2 ** (discarded_blocks - 1), _LONGEST_PAUSE_S))
            watch.look()  # the pause is not part of the next block
            continue
        used_s += clock() - began_s
        for name, values in block.items():
            taken[name] += values
        kept_blocks += 1
        rounds += size
        if _enough(rounds, used_s, settings, lambda: judge(taken), len(samples)):
            return Rounds({name: tuple(values) for name, values in taken.items()}, kept_blocks, discarded_blocks)


def _enough(
    rounds: int, used_s: float, settings: MeasureSettings, certainty: Callable[[], Certainty], participants: int
) -> bool:
    if used_s >= settings.max_seconds:
        return rounds >= _FEWEST_ROUNDS
    if rounds < settings.min_rounds:
        return False
    budget_s = settings.seconds * participants
    if rounds >= settings.max_rounds or used_s >= max(budget_s, settings.patience_seconds):
        return True
    found = certainty()
    return found is Certainty.SETTLED or (found is Certainty.FAIR and used_s >= budget_s)


def _block(samples: Mapping[str, Sample], rounds: int, rng: random.Random) -> dict[str, list[float]]:
    block: dict[str, list[float]] = {name: [] for name in samples}
    order = list(samples)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            block[name].append(checked(name, samples[name]()))
    return block


def _refuse_too_many(discarded: int, reasons: Sequence[str], settings: MeasureSettings) -> None:
    named = ", ".join(reasons)
    if discarded > settings.max_discarded_blocks:
        raise MeasurementError(
            f"The GPU was throttled ({named}) in {discarded} blocks, more than the {settings.max_discarded_blocks} "
            "that may be thrown away.",
            "Cool the GPU, lower its power draw, or lock its clocks lower, and measure again.",
        )
    _log.warning("The GPU was throttled (%s): a block of samples is thrown away and taken again.", named)
