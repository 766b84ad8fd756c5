"""Our rule and other tools' rules on the same recorded samples: false alarms and detections, side by side.

    python -m benchmarks.compare_rules PAIRS.jsonl [--suites 1000] [--recordings 100] [--jobs N] [--json PATH]

PAIRS.jsonl holds recorded pairs of processes (format: trtgate/judge/pairs.py). Ours judges whole suites of 30 cases
drawn from the recorded pairs, graphed and ungraphed rows apart. However many suites are drawn, they come from the pairs
and cases that were recorded, whose numbers stand above the tables, and show nothing that those did not: so the rates
have intervals over recordings, from pairs that are resampled before suites are drawn, in which identical code is
swapped at random. ``with replacement`` marks rows with fewer recorded pairs than a gate takes, which makes them
optimistic. An arm is called by what it was meant to inject; what it did is measured between the lengthened and the
clean runner of one process, and an arm that is off by more than a tenth is left out of the rows over all cases.
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

from benchmarks import peer_rates
from trtgate.case import Case, Execution, Quantity
from trtgate.errors import RecordError, TrtgateError
from trtgate.judge.environment import environment_valid, repeats_well
from trtgate.judge.pairs import ProcessPair, log_ratio, read_pairs
from trtgate.judge.resampling import Rates, Scenario, Spread, from_pairs, over_recordings, run
from trtgate.judge.stats import PairEstimate
from trtgate.policy import JudgeSettings

_SUITE: Final = 30
_AA: Final = "aa"
_RESOLVED_MS: Final = 0.2  # below it a time is a few ticks of the events' clock
_OFF: Final = 0.1  # of what an arm is called
_SUITES_A_RECORDING: Final = 20  # so many times fewer than in all
_BOUND: Final = "suite_false_failure_bound"
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


def ours(
    recorded: Recorded, settings: JudgeSettings, suites: int, recordings: int, seed: int, jobs: int
) -> list[dict[str, Any]]:
    """Rates of the gate for each kind of row and arm: one slower case among unchanged ones, then all of them slower."""
    planned = [plan for kind in kinds(recorded) for plan in _scenarios(recorded, kind, settings)]
    scenarios = [plan[0] for plan in planned]
    each = max(10, suites // _SUITES_A_RECORDING)
    with ProcessPoolExecutor(jobs) as pool:
        rates = pool.map(partial(run, settings=settings, suites=suites, seed=seed), scenarios)
        again = partial(over_recordings, settings=settings, recordings=recordings, suites=each, seed=seed)
        spreads = pool.map(again, scenarios) if recordings else itertools.repeat(None)
        return [
            place | _our_rates(found, spread)
            for (_, place), found, spread in zip(planned, rates, spreads, strict=False)
        ]


def held(recorded: Recorded) -> list[dict[str, Any]]:
    """How many pairs and cases there are behind everything else."""
    rows = []
    for arm, cells in sorted(recorded.items()):
        for kind in sorted({_kind(cell) for cell in cells}):
            mine = [pairs for cell, pairs in cells.items() if _kind(cell) == kind]
            numbers = {pair.pair for pairs in mine for pair in pairs}
            comparisons = sum(map(len, mine))
            place = {"quantity": str(kind[0]), "rows": str(kind[1]), "arm": arm}
            rows.append(place | {"pairs of processes": len(numbers), "cases": len(mine), "comparisons": comparisons})
    return rows


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
        reached = {cell: injected(pairs, unchanged[cell]) for cell, pairs in changed.items()}
        called = {cell: pairs for cell, pairs in changed.items() if _as_called(arm, reached[cell])}
        for cell, pairs in changed.items():
            place = _place(kind, arm, cell[0], {cell: pairs}, settings) | {"ms": _median_ms(unchanged[cell])}
            place |= {"injected as measured": reached[cell], "left out": None if cell in called else "off by a tenth"}
            yield _scenario([(cell, pairs)], background[1:], settings), place | _measured(pairs, settings)
        resolved = {cell: pairs for cell, pairs in called.items() if _median_ms(unchanged[cell]) >= _RESOLVED_MS}
        for name, drawn in (("all", called), (f"all of {_RESOLVED_MS:g} ms and more", resolved)):
            if drawn:
                place = _place(kind, arm, name, drawn, settings)
                place["injected as measured"] = float(np.mean([reached[cell] for cell in drawn]))
                yield _scenario(_suite(drawn), [], settings), place


def injected(lengthened: list[ProcessPair], clean: list[ProcessPair]) -> float:
    """By what fraction the busy kernel lengthened a case: two runners of one process that took turns.

    Args:
        lengthened: pairs of a power arm.
        clean: A/A pairs, of which those of the same number hold the same process without the kernel.
    """
    by_pair = {pair.pair: pair for pair in clean}
    ratios = [log_ratio(by_pair[pair.pair].head, pair.head) for pair in lengthened if pair.pair in by_pair]
    return float(np.expm1(np.mean(ratios))) if ratios else float("nan")


def _as_called(arm: str, reached: float) -> bool:
    wanted = float(arm.rstrip("%")) / 100
    return abs(reached - wanted) <= _OFF * wanted


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


def _our_rates(rates: Rates, spread: Spread | None) -> dict[str, Any]:
    """Without the bound by the number of suites: it would be one for suites of pairs that were recorded for each."""
    told = {name: figure for name, figure in rates.to_json().items() if name not in ("name", _BOUND)}
    for name in ("suite_false_failure", "suites_passed", "found") if spread is not None else ():
        told[f"{name}, over recordings"] = getattr(spread, name)
    if rates.found is not None:  # a suite in which something is slower ought not to pass
        told |= dict.fromkeys(told.keys() & {"suites_passed", "suites_passed, over recordings"})
    return told


def cases(recorded: Recorded, settings: JudgeSettings) -> list[dict[str, Any]]:
    """Every recorded row of identical code: its time, its spread, and the smallest slowdown that would be found."""
    return [
        {"quantity": str(quantity), "case": case, "ms": _median_ms(pairs), "pairs": len(pairs)}
        | _measured(pairs, settings)
        for (case, quantity), pairs in sorted(recorded[_AA].items(), key=lambda item: (_kind(item[0]), item[0]))
    ]


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
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{end:.3g}" for end in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", type=Path, help="recorded pairs, JSON lines")
    parser.add_argument("--suites", type=int, default=1000, help="suites of 30 cases drawn for each row of ours")
    parser.add_argument(
        "--recordings", type=int, default=100, help="resampled recordings behind each interval; 0 for no intervals"
    )
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
        "What was recorded": held(recorded),
        "The gate, on suites of 30 cases": ours(
            recorded, settings, options.suites, options.recordings, options.seed, options.jobs
        ),
        "Identical code, case by case": cases(recorded, settings),
        "Other tools' rules": peer_rates.rates(recorded, options.seed),
        "The A/A arm": arm_check(recorded, settings),
    }
    print("\n\n".join(table(title, rows) for title, rows in results.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
