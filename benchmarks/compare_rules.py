"""Our rule and other tools' rules on the same recorded samples: false alarms and detections, side by side.

    python -m benchmarks.compare_rules PAIRS.jsonl [--suites 1000] [--jobs N] [--seed 0] [--json PATH]

PAIRS.jsonl holds recorded pairs of processes (format: trtgate/judge/pairs.py). Ours judges whole suites of 30 cases
drawn from the recorded pairs, graphed and ungraphed rows apart; 1000 suites without a failure bound its rate at 0.3%
(95%), 200 would only at 1.5%. ``with replacement`` marks rows with fewer recorded pairs than a gate takes, which makes
them optimistic. The others judge one process against one process: of the same pair (``same job``: turns were taken,
which flatters them) and of different pairs (``stored``: as against a baseline from another time).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from trtgate.case import Case, Execution, Quantity
from trtgate.errors import RecordError, TrtgateError
from trtgate.judge.environment import environment_valid, repeats_well
from trtgate.judge.pairs import ProcessPair, read_pairs
from trtgate.judge.peers import RULES, PeerVerdict, Rule
from trtgate.judge.resampling import Rates, Scenario, from_pairs, run
from trtgate.judge.stats import PairEstimate
from trtgate.policy import JudgeSettings

_SUITE: Final = 30
_AA: Final = "aa"
_RESOLVED_MS: Final = 0.2  # below it a time is a few ticks of the events' clock
Cell = tuple[str, Quantity]
Row = tuple[Cell, list[ProcessPair]]
Kind = tuple[Quantity, Execution]
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


def ours(recorded: Recorded, settings: JudgeSettings, suites: int, seed: int, jobs: int) -> list[dict[str, Any]]:
    """Rates of the gate for each kind of row and arm: one slower case among unchanged ones, then all of them slower."""
    planned = [plan for kind in kinds(recorded) for plan in _scenarios(recorded, kind, settings)]
    with ProcessPoolExecutor(jobs) as pool:
        rates = pool.map(partial(run, settings=settings, suites=suites, seed=seed), [plan[0] for plan in planned])
        return [place | _our_rates(found) for (_, place), found in zip(planned, rates, strict=True)]


def kinds(recorded: Recorded) -> list[Kind]:
    """Quantity and execution of the recorded rows, which are judged as suites of their own."""
    return sorted({_kind(cell) for cell in recorded[_AA]})


def _kind(cell: Cell) -> Kind:
    return cell[1], Case.parse(cell[0]).execution


def _scenarios(recorded: Recorded, kind: Kind, settings: JudgeSettings) -> Iterator[tuple[Scenario, dict[str, Any]]]:
    """What to draw, and where its rates belong in the table."""
    unchanged = {cell: pairs for cell, pairs in recorded[_AA].items() if _kind(cell) == kind}
    background = _suite(unchanged)
    yield _scenario([], background, settings), _place(kind, _AA, "", unchanged, settings)
    for arm in sorted(recorded.keys() - {_AA}):
        changed = {cell: pairs for cell, pairs in sorted(recorded[arm].items()) if cell in unchanged}
        for cell, pairs in changed.items():
            place = _place(kind, arm, cell[0], {cell: pairs}, settings) | {"ms": _median_ms(unchanged[cell])}
            yield _scenario([(cell, pairs)], background[1:], settings), place | _measured(pairs, settings)
        resolved = {cell: pairs for cell, pairs in changed.items() if _median_ms(unchanged[cell]) >= _RESOLVED_MS}
        for name, drawn in (("all", changed), (f"all of {_RESOLVED_MS:g} ms and more", resolved)):
            if drawn:
                yield _scenario(_suite(drawn), [], settings), _place(kind, arm, name, drawn, settings)


def _scenario(changed: Sequence[Row], unchanged: Sequence[Row], settings: JudgeSettings) -> Scenario:
    rows = [*changed, *unchanged]
    return Scenario(
        name="",
        cases=tuple(from_pairs(_ratios(pairs)) for _, pairs in rows),
        regressed=len(changed),
        margins=tuple(settings.margin_for(*cell) for cell, _ in rows),
    )


def _suite(cells: Mapping[Cell, list[ProcessPair]]) -> list[Row]:
    """As many cases as a suite has, from the few that were recorded."""
    return list(itertools.islice(itertools.cycle(sorted(cells.items(), key=lambda item: item[0])), _SUITE))


def _ratios(pairs: list[ProcessPair]) -> list[float]:
    return [pair.log_ratio for pair in pairs]


def _median_ms(pairs: list[ProcessPair]) -> float:
    return float(np.median([np.median(np.concatenate(pair.base)) for pair in pairs])) * 1e3


def _measured(pairs: list[ProcessPair], settings: JudgeSettings) -> dict[str, Any]:
    """What the pairs of a case say of themselves: the injected effect, its spread, and what could be resolved."""
    estimate = PairEstimate.of(_ratios(pairs), settings.least_pair_sd)
    margin = settings.margin_for(pairs[0].case, pairs[0].quantity)
    level = settings.false_failure_rate * (1 - settings.first_look_share)
    resolvable = estimate.resolvable(settings.extension_pairs, margin, level, settings.power)
    return {"effect as measured": float(np.expm1(estimate.mean)), "pair sd": estimate.sd, "resolvable": resolvable}


def _place(
    kind: Kind, arm: str, case: str, drawn: dict[Cell, list[ProcessPair]], settings: JudgeSettings
) -> dict[str, Any]:
    fewest = min(map(len, drawn.values()))
    place = {"quantity": str(kind[0]), "rows": str(kind[1]), "arm": arm, "slower case": case, "ms": None}
    return place | {
        "recorded pairs": fewest,
        "with replacement": fewest < settings.first_pairs + settings.extension_pairs,
    }


def _our_rates(rates: Rates) -> dict[str, Any]:
    return {name: figure for name, figure in rates.to_json().items() if name != "name"}


def cases(recorded: Recorded, settings: JudgeSettings) -> list[dict[str, Any]]:
    """Every recorded row of identical code: its time, its spread, and the smallest slowdown that would be found."""
    return [
        {"quantity": str(quantity), "case": case, "ms": _median_ms(pairs), "pairs": len(pairs)}
        | _measured(pairs, settings)
        for (case, quantity), pairs in sorted(recorded[_AA].items(), key=lambda item: (_kind(item[0]), item[0]))
    ]


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
    for quantity, execution in kinds(recorded):
        cells = {cell: pairs for cell, pairs in recorded[_AA].items() if _kind(cell) == (quantity, execution)}
        mine = {cell[0]: _ratios(pairs) for cell, pairs in cells.items()}
        margins = {case: settings.margin_for(case, quantity) for case in mine}
        for start in range(0, min(map(len, mine.values())) - settings.aa_pairs + 1, settings.aa_pairs):
            taken = {case: ratios[start : start + settings.aa_pairs] for case, ratios in mine.items()}
            steady = [case for case in mine if repeats_well(case, quantity)]
            decision = environment_valid(taken, settings, margins, steady)
            rows.append(
                {
                    "quantity": str(quantity),
                    "rows": str(execution),
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


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", type=Path, help="recorded pairs, JSON lines")
    parser.add_argument("--suites", type=int, default=1000, help="suites of 30 cases drawn for each row of ours")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that judge them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Judge the recorded pairs by every rule and print the rates."""
    options = arguments(argv)
    settings = JudgeSettings()
    try:
        recorded = group(read_pairs(options.pairs))
    except TrtgateError as error:
        print(error)
        return 2
    results = {
        "The gate, on suites of 30 cases": ours(recorded, settings, options.suites, options.seed, options.jobs),
        "Identical code, case by case": cases(recorded, settings),
        "Other tools' rules": theirs(recorded),
        "The A/A arm": arm_check(recorded, settings),
    }
    print("\n\n".join(table(title, rows) for title, rows in results.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
