"""Our rule and other tools' rules on the same recorded samples: false alarms and detections, side by side.

    python -m benchmarks.compare_rules PAIRS.jsonl [--suites 200] [--seed 0] [--json PATH]

PAIRS.jsonl holds recorded pairs of processes (format: trtgate/judge/pairs.py). Ours judges whole suites of 30 cases
drawn from the recorded pairs; ``with replacement`` marks rows with fewer recorded pairs than a gate takes, which makes
them optimistic. The others judge one process against one process: of the same pair (``same job``: turns were taken,
which flatters them) and of different pairs (``stored``: as against a baseline from another time).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from trtgate.case import Quantity
from trtgate.errors import RecordError, TrtgateError
from trtgate.judge.environment import environment_valid
from trtgate.judge.pairs import ProcessPair, read_pairs
from trtgate.judge.peers import RULES, PeerVerdict, Rule
from trtgate.judge.resampling import Rates, Scenario, from_pairs, run
from trtgate.judge.stats import PairEstimate
from trtgate.policy import JudgeSettings

_SUITE: Final = 30
_AA: Final = "aa"
Cell = tuple[str, Quantity]
Recorded = dict[str, dict[Cell, list[ProcessPair]]]


def group(pairs: list[ProcessPair]) -> Recorded:
    """Pairs by arm and by case and quantity, in the order of the pair numbers.

    Raises:
        RecordError: there is no A/A pair.
    """
    arms: defaultdict[str, defaultdict[Cell, list[ProcessPair]]] = defaultdict(lambda: defaultdict(list))
    for pair in sorted(pairs, key=lambda pair: pair.pair):
        arms[pair.arm][pair.case, pair.quantity].append(pair)
    if _AA not in arms:
        raise RecordError("The file holds no A/A pair.", "Record pairs of identical code too.")
    return {arm: dict(cells) for arm, cells in arms.items()}


def ours(recorded: Recorded, settings: JudgeSettings, suites: int, seed: int) -> list[dict[str, Any]]:
    """Rates of the gate for each quantity and arm: one slower case among unchanged ones, then all of them slower."""
    rows = []
    for quantity in sorted({cell[1] for cell in recorded[_AA]}):
        unchanged = {cell: _ratios(pairs) for cell, pairs in recorded[_AA].items() if cell[1] == quantity}
        cells = sorted(unchanged)
        suite = [cells[place % len(cells)] for place in range(_SUITE)]
        margins = tuple(settings.margin_for(case, quantity) for case, _ in suite)
        background = tuple(from_pairs(unchanged[cell]) for cell in suite)
        aa = Scenario("identical code", background, margins=margins)
        rows.append(
            _our_row(quantity, _AA, "", run(aa, settings, suites, seed), min(map(len, unchanged.values())), settings)
        )
        for arm in sorted(recorded.keys() - {_AA}):
            changed = {cell: _ratios(pairs) for cell, pairs in recorded[arm].items() if cell in unchanged}
            for cell, ratios in sorted(changed.items()):
                margin = settings.margin_for(cell[0], quantity)
                one = Scenario(
                    f"{cell[0]} slower, the rest unchanged",
                    (from_pairs(ratios), *background[1:]),
                    regressed=1,
                    margins=(margin, *margins[1:]),
                )
                row = _our_row(quantity, arm, cell[0], run(one, settings, suites, seed), len(ratios), settings)
                rows.append(row | _measured(ratios, settings, margin))
            if changed:
                everywhere = sorted(changed)
                drawn = [everywhere[place % len(everywhere)] for place in range(_SUITE)]
                every = Scenario(
                    "all cases slower",
                    tuple(from_pairs(changed[cell]) for cell in drawn),
                    regressed=_SUITE,
                    margins=tuple(settings.margin_for(case, quantity) for case, _ in drawn),
                )
                fewest = min(map(len, changed.values()))
                rows.append(_our_row(quantity, arm, "all", run(every, settings, suites, seed), fewest, settings))
    return rows


def _ratios(pairs: list[ProcessPair]) -> list[float]:
    return [pair.log_ratio for pair in pairs]


def _measured(ratios: list[float], settings: JudgeSettings, margin: float) -> dict[str, Any]:
    """What the arm's pairs say of themselves: the injected effect, its spread, and what could be resolved."""
    estimate = PairEstimate.of(ratios, settings.least_pair_sd)
    level = settings.false_failure_rate * (1 - settings.first_look_share)
    resolvable = estimate.resolvable(settings.extension_pairs, margin, level, settings.power)
    return {"effect as measured": float(np.expm1(estimate.mean)), "pair sd": estimate.sd, "resolvable": resolvable}


def _our_row(
    quantity: Quantity, arm: str, case: str, rates: Rates, recorded: int, settings: JudgeSettings
) -> dict[str, Any]:
    taken = settings.first_pairs + settings.extension_pairs
    place = {"quantity": str(quantity), "arm": arm, "slower case": case, "recorded pairs": recorded}
    figures = {name: figure for name, figure in rates.to_json().items() if name != "name"}
    return place | {"with replacement": recorded < taken} | figures


def theirs(recorded: Recorded) -> list[dict[str, Any]]:
    """How often each rule calls a regression (and, for A/A, an improvement), a row for each quantity, arm and rule."""
    rows = []
    for arm, cells in sorted(recorded.items()):
        for quantity in sorted({cell[1] for cell in cells}):
            mine = {cell: pairs for cell, pairs in cells.items() if cell[1] == quantity}
            for name, rule in RULES.items():
                row: dict[str, Any] = {"quantity": str(quantity), "arm": arm, "rule": name}
                for label, shift in (("same job", 0), ("stored", 1)):
                    verdicts = [verdict for pairs in mine.values() for verdict in _judge_all(rule, pairs, shift)]
                    row |= _rates(verdicts, label)
                rows.append(row)
    return rows


def _judge_all(rule: Rule, pairs: list[ProcessPair], shift: int) -> list[PeerVerdict]:
    if shift and len(pairs) < 2:
        return []
    bases = [np.concatenate(pair.base) for pair in pairs]
    heads = [np.concatenate(pair.head) for pair in pairs]
    return [rule(bases[place], heads[(place + shift) % len(pairs)]) for place in range(len(pairs))]


def _rates(verdicts: list[PeerVerdict], label: str) -> dict[str, Any]:
    if not verdicts:
        return {f"{label}: {what}": None for what in ("comparisons", "regression", "improvement", "ambiguous")}
    return {f"{label}: comparisons": len(verdicts)} | {
        f"{label}: {kind}": sum(verdict is kind for verdict in verdicts) / len(verdicts)
        for kind in (PeerVerdict.REGRESSION, PeerVerdict.IMPROVEMENT, PeerVerdict.AMBIGUOUS)
    }


def arm_check(recorded: Recorded, settings: JudgeSettings) -> list[dict[str, Any]]:
    """What the A/A arm says of the recorded machine, in consecutive groups of as many pairs as a gate takes."""
    rows = []
    for quantity in sorted({cell[1] for cell in recorded[_AA]}):
        mine = {cell[0]: _ratios(pairs) for cell, pairs in recorded[_AA].items() if cell[1] == quantity}
        margins = {case: settings.margin_for(case, quantity) for case in mine}
        for start in range(0, min(map(len, mine.values())) - settings.aa_pairs + 1, settings.aa_pairs):
            taken = {case: ratios[start : start + settings.aa_pairs] for case, ratios in mine.items()}
            decision = environment_valid(taken, settings, margins)
            rows.append(
                {
                    "quantity": str(quantity),
                    "pairs": f"{start}-{start + settings.aa_pairs - 1}",
                    "environment": decision.code,
                    "reason": decision.reason,
                }
            )
    return rows


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """A markdown table with the union of the rows' columns."""
    if not rows:
        return f"### {title}\n\nNothing recorded."
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = [f"### {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(row.get(head)) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Judge the recorded pairs by every rule and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", type=Path, help="recorded pairs, JSON lines")
    parser.add_argument("--suites", type=int, default=200, help="suites of 30 cases drawn for each row of ours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(argv)
    settings = JudgeSettings()
    try:
        recorded = group(read_pairs(options.pairs))
    except TrtgateError as error:
        print(error)
        return 2
    results = {
        "The gate, on suites of 30 cases": ours(recorded, settings, options.suites, options.seed),
        "Other tools' rules": theirs(recorded),
        "The A/A arm": arm_check(recorded, settings),
    }
    print("\n\n".join(table(title, rows) for title, rows in results.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
