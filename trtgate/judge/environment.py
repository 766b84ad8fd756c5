"""The A/A arm: is this machine, now, fit to judge anything?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from trtgate.case import Case, Execution, Quantity
from trtgate.judge.multiplicity import holm
from trtgate.judge.stats import PairEstimate
from trtgate.judge.verdict import Decision, Verdict, spell
from trtgate.policy.judge import JudgeSettings

# A gate asks twice: after the first pairs, since more of them cannot mend a machine, and at its end.
AA_LOOKS = 2
_CONFIDENCE = 0.95
_ADVICE = "Wait until nothing else runs here, and lock the clocks of the GPU, or of the CPU where that computes."


def repeats_well(case: str, quantity: Quantity) -> bool:
    """Whether a fit machine repeats this figure well: the GPU's time for a graph, which no host disturbs."""
    return quantity is Quantity.DEVICE and Case.parse(case).execution is Execution.GRAPH


def environment_valid(
    aa_pairs: Mapping[str, Sequence[float]],
    settings: JudgeSettings,
    margins: Mapping[str, float] | None = None,
    steady: Collection[str] = (),
) -> Decision:
    """Judge pairs of processes that ran identical code.

    Invalid where a case's identical code differs by more than `aa_tolerance` of its margin (Holm over the cases, at
    `aa_false_alarm_rate` in both looks of a gate together), or where even the steadiest quarter of the cases that ought
    to be steady has intervals wider than `aa_max_half_width_margins` of their margins: one noisy case is that case's
    affair, and so are all of a kind that is noisy on any machine; noise in every one of several steady ones is the
    machine's. Fails closed when the arm did not run.

    Args:
        aa_pairs: for every case its log(second / first) of identical code, one a pair of fresh processes.
        settings: levels and limits.
        margins: margin of each case as a fraction; a case that is not named has the margin of device time.
        steady: the cases that a fit machine repeats well. Fewer than `aa_fewest_steady` say nothing of the machine.

    Returns:
        SAME, or INVALID with the case and the figures that condemn the machine.
    """
    short = [case for case, ratios in aa_pairs.items() if len(ratios) < settings.aa_pairs]
    if not aa_pairs or short:
        what = f"'{short[0]}' has {len(aa_pairs[short[0]])} A/A pairs" if short else "No A/A pair was taken"
        return _invalid("aa_missing", f"{what} of the {settings.aa_pairs} that are needed to trust this machine.")
    broken = [case for case, ratios in aa_pairs.items() if not np.all(np.isfinite(np.asarray(ratios, dtype=float)))]
    if broken:
        return _invalid("aa_missing", f"An A/A pair of '{broken[0]}' has a ratio that is not finite.")
    estimates = {case: PairEstimate.of(ratios, settings.least_pair_sd) for case, ratios in aa_pairs.items()}
    margin_of = {case: (margins or {}).get(case, settings.margin.device) for case in estimates}
    p_values = []
    for case, estimate in estimates.items():
        bound = settings.aa_tolerance * float(np.log1p(margin_of[case]))
        p_values.append(min(1.0, 2 * min(estimate.p_above(bound), estimate.p_below(-bound))))
    adjusted = holm(p_values)
    worst = int(np.argmin(adjusted))
    if adjusted[worst] <= settings.aa_false_alarm_rate / AA_LOOKS:
        case = list(estimates)[worst]
        estimate = estimates[case]
        return _invalid(
            "aa_differs",
            f"Identical code looks different: '{case}' {spell(estimate.interval(_CONFIDENCE))} over {estimate.count} "
            f"A/A pairs (adjusted p {adjusted[worst]:.2g}). {_ADVICE}",
            estimate,
        )
    widths = {case: estimate.interval(_CONFIDENCE).half_width for case, estimate in estimates.items()}
    in_margins = {case: width / margin_of[case] for case, width in widths.items() if case in steady}
    steadiest = float(np.quantile(list(in_margins.values()), 0.25)) if in_margins else 0.0
    if len(in_margins) >= settings.aa_fewest_steady and steadiest > settings.aa_max_half_width_margins:
        case = min(in_margins, key=in_margins.__getitem__)
        return _invalid(
            "aa_too_wide",
            f"Even the steadiest quarter of the cases is uncertain by {steadiest:.2g} times its margin on identical "
            f"code (limit {settings.aa_max_half_width_margins:g}). {_ADVICE}",
            estimates[case],
        )
    return Decision(
        Verdict.SAME,
        "aa_same",
        f"Identical code looks identical in {len(estimates)} cases; half of the intervals are within "
        f"±{float(np.median(list(widths.values()))) * 100:.2g}%.",
        pairs=min(estimate.count for estimate in estimates.values()),
    )


def _invalid(code: str, reason: str, estimate: PairEstimate | None = None) -> Decision:
    return Decision(
        Verdict.INVALID,
        code,
        reason,
        estimate.interval(_CONFIDENCE) if estimate else None,
        pairs=estimate.count if estimate else 0,
    )
