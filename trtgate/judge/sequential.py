"""The pull-request gate's rule: two looks, the second on fresh pairs alone.

First look (`first_pairs`): equivalence settles quiet cases, a strict test over the whole suite settles large changes.
Second look (`extension_pairs`, once): cases that looked suspicious are judged on the new pairs alone, so that being
picked out by the first look cannot make them guilty, and Holm's correction runs over those cases only.

How the family-wise false-failure rate A is spent: ``first_look_share`` of it on the first look (Holm over all cases),
the rest on the second (Holm over the candidates; valid because the fresh pairs are independent of how the candidates
were chosen). By Bonferroni over the two looks the sum is at most A, whatever the number of true regressions.
docs/statistics.md has the simulated rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trtgate.errors import MeasurementError
from trtgate.judge.interval import Interval
from trtgate.judge.multiplicity import holm
from trtgate.judge.stats import PairEstimate, trimmed_interval
from trtgate.judge.verdict import Decision, Verdict, percent, spell
from trtgate.policy.judge import JudgeSettings


@dataclass(frozen=True, slots=True)
class NeedMore:
    """A case is open: take this many more pairs of fresh processes."""

    pairs: int
    reason: str


_ADVICE: Final = " A win that nobody expects may be work that is no longer done."
_SIDES: Final = (Verdict.SLOWER, Verdict.FASTER)


@dataclass(frozen=True, slots=True)
class Sequential:
    """Decides a suite from its pairs so far. Pure: the same pairs give the same answer.

    Attributes:
        settings: error rates and numbers of pairs.
        margins: margin of each case as a fraction; a case that is not named has the margin of device time.
    """

    settings: JudgeSettings
    margins: Mapping[str, float] | None = None

    @property
    def most_pairs(self) -> int:
        """Pairs after which every case is decided."""
        return self.settings.first_pairs + self.settings.extension_pairs

    def update(self, pairs: Mapping[str, Sequence[float]]) -> dict[str, Decision | NeedMore]:
        """Look at all pairs taken so far.

        Args:
            pairs: for every case of the suite its log(head / base), one a pair of fresh processes, in the order taken;
                decided cases included, since they belong to the family that is corrected for. Pairs beyond
                `most_pairs` are not looked at.

        Returns:
            For every case its decision, or how many pairs are still wanted.

        Raises:
            MeasurementError: a ratio is not finite.
        """
        for case, ratios in pairs.items():
            if not np.all(np.isfinite(np.asarray(ratios, dtype=np.float64))):
                raise MeasurementError(f"A pair of '{case}' has a ratio that is not finite.", "Drop the pair aloud.")
        first = self.settings.first_pairs
        seen = {case: ratios[:first] for case, ratios in pairs.items() if len(ratios) >= first}
        answers: dict[str, Decision | NeedMore] = {
            case: NeedMore(first - len(ratios), f"{len(ratios)} of the first {first} pairs are in")
            for case, ratios in pairs.items()
            if case not in seen
        }
        estimates = {case: self._estimate(ratios) for case, ratios in seen.items()}
        decided = self._first_look(estimates, family=len(pairs))
        left_open = {case: estimate for case, estimate in estimates.items() if case not in decided}
        return answers | decided | self._second_look(pairs, left_open)

    def _first_look(self, estimates: Mapping[str, PairEstimate], family: int) -> dict[str, Decision]:
        level = self.settings.false_failure_rate * self.settings.first_look_share
        decided = self._beyond(estimates, level, family)
        for case, estimate in estimates.items():
            # A case that may have become faster is looked at again, so that an unexplained win gets its name.
            perhaps_faster = self._p(case, estimate, Verdict.FASTER) < self.settings.candidate_level
            interval = estimate.interval(self._same_confidence())
            if case not in decided and not perhaps_faster and (same := self._within(case, estimate, interval)):
                decided[case] = same
        return decided

    def _second_look(
        self, pairs: Mapping[str, Sequence[float]], first: Mapping[str, PairEstimate]
    ) -> dict[str, Decision | NeedMore]:
        """Judge the open cases.

        Args:
            pairs: all pairs of all cases.
            first: the first look's estimates of the cases that it left open.
        """
        fresh = {
            case: self._estimate(pairs[case][self.settings.first_pairs : self.most_pairs])
            for case in first
            if len(pairs[case]) >= self.most_pairs
        }
        level = self.settings.false_failure_rate * (1 - self.settings.first_look_share)
        answers: dict[str, Decision | NeedMore] = dict(self._confirmed(first, fresh, level))
        for case in first:
            if case in answers:
                continue
            if case not in fresh:
                wanted = self.most_pairs - len(pairs[case])
                found = spell(first[case].interval(self._same_confidence()))
                answers[case] = NeedMore(wanted, f"{found} after {first[case].count} pairs decides nothing")
                continue
            answers[case] = self._last_word(case, pairs[case][: self.most_pairs])
        return answers

    def _last_word(self, case: str, ratios: Sequence[float]) -> Decision:
        """SAME by the mean of all pairs or by that of the typical ones, which share the rate; or INCONCLUSIVE."""
        together = self._estimate(ratios)
        share = self.settings.trimmed_share
        interval = together.interval(self._same_confidence(1 - share))
        if same := self._within(case, together, interval):
            return same
        if share:
            trimmed, cut = trimmed_interval(ratios, self.settings.least_pair_sd, self._same_confidence(share))
            if cut and (same := self._within(case, together, trimmed, f", {cut} cut at either end,")):
                return same
        return self._undecided(case, together, interval)

    def _confirmed(
        self, first: Mapping[str, PairEstimate], fresh: Mapping[str, PairEstimate], level: float
    ) -> dict[str, Decision]:
        """Judge each side's candidates on their fresh pairs alone."""
        decided: dict[str, Decision] = {}
        for side in _SIDES:
            candidates = [
                case
                for case, estimate in first.items()
                if self._p(case, estimate, side) < self.settings.candidate_level
            ]
            ready = {case: fresh[case] for case in candidates if case in fresh}
            decided |= self._beyond(ready, level, len(candidates), sides=(side,), fresh="fresh ")
        return decided

    def _beyond(
        self,
        estimates: Mapping[str, PairEstimate],
        level: float,
        family: int,
        *,
        sides: tuple[Verdict, ...] = _SIDES,
        fresh: str = "",
    ) -> dict[str, Decision]:
        """Cases whose change clears the margin, Holm-corrected on each side."""
        decided: dict[str, Decision] = {}
        # Where wins fail too, both sides share the rate at which a gate may fail falsely.
        each = level if "faster" in self.settings.passes else level / 2
        for side in sides:
            p_values = [self._p(case, estimate, side) for case, estimate in estimates.items()]
            for (case, estimate), p, adjusted in zip(estimates.items(), p_values, holm(p_values, family), strict=True):
                if adjusted <= each:
                    # The level at which Holm let this case be decided: its interval then clears the margin too.
                    own = each * p / adjusted if p > 0 else each / family
                    decided[case] = self._cleared(case, side, estimate, own, fresh)
        return decided

    def _cleared(self, case: str, side: Verdict, estimate: PairEstimate, level: float, fresh: str) -> Decision:
        interval = estimate.interval(float(1 - 2 * level))
        advice = "" if side is Verdict.SLOWER else _ADVICE
        return Decision(
            side,
            "beyond_margin",
            f"{side.value.capitalize()}: {spell(interval)} over {estimate.count} {fresh}pairs, beyond the margin of "
            f"{self._margin(case) * 100:g}%.{advice}",
            interval,
            self._resolvable(case, estimate),
            estimate.count,
        )

    def _within(self, case: str, estimate: PairEstimate, interval: Interval, cut: str = "") -> Decision | None:
        """Equivalence (two one-sided tests), or, where wins pass, proof of not being slower.

        A case whose whole interval lies beyond the margin on the better side is not the same, even where allowing
        for all cases of the suite keeps it from being a proven win: it is named as a likely one.
        """
        margin = self._margin(case)
        if interval.high >= 1 + margin:
            return None
        resolvable = self._resolvable(case, estimate)
        found = f"{spell(interval)} over {estimate.count} pairs{cut}"
        if interval.low > 1 / (1 + margin):
            reason = f"Same: {found} lies within the margin of {margin * 100:g}%."
            return Decision(Verdict.SAME, "within_margin", reason, interval, resolvable, estimate.count)
        if "faster" not in self.settings.passes:
            return None
        if interval.high < 1 / (1 + margin):
            reason = (
                f"Likely faster: {found} lies beyond the margin of {margin * 100:g}%, though not at the level that "
                f"allows for all cases.{_ADVICE}"
            )
            return Decision(Verdict.FASTER, "likely_faster", reason, interval, resolvable, estimate.count)
        reason = f"Not slower: {found} stays below the margin of {margin * 100:g}%; it may be faster."
        return Decision(Verdict.SAME, "not_slower", reason, interval, resolvable, estimate.count)

    def _undecided(self, case: str, together: PairEstimate, interval: Interval) -> Decision:
        resolvable = self._resolvable(case, together)
        return Decision(
            Verdict.INCONCLUSIVE,
            "too_noisy",
            f"Inconclusive: {spell(interval)} over {together.count} pairs (sd {together.sd * 100:.2g}% between pairs) "
            f"neither clears the margin of {self._margin(case) * 100:g}% nor stays within it; slowdowns from "
            f"{percent(1 + resolvable)} would be found in {self.settings.power * 100:g}% of runs.",
            interval,
            resolvable,
            together.count,
        )

    def _estimate(self, ratios: Sequence[float]) -> PairEstimate:
        return PairEstimate.of(ratios, self.settings.least_pair_sd)

    def _margin(self, case: str) -> float:
        return (self.margins or {}).get(case, self.settings.margin.device)

    def _p(self, case: str, estimate: PairEstimate, side: Verdict) -> float:
        """One-sided p value of the hypothesis that the case stays inside its margin on this side."""
        bound = float(np.log1p(self._margin(case)))
        return estimate.p_above(bound) if side is Verdict.SLOWER else estimate.p_below(-bound)

    def _resolvable(self, case: str, estimate: PairEstimate) -> float:
        """What the extension finds in a case that is the only suspicious one."""
        level = self.settings.false_failure_rate * (1 - self.settings.first_look_share)
        return estimate.resolvable(self.settings.extension_pairs, self._margin(case), level, self.settings.power)

    def _same_confidence(self, share: float = 1.0) -> float:
        # Two looks may each say SAME, so each gets half of the rate; one-sided, hence the factor of two.
        return 1 - 2 * share * (self.settings.false_same_rate / 2)
