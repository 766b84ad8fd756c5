"""Prints what an engine is made of, and how two differ. Takes plain JSON, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trtgate.report.figures import printable
from trtgate.report.wide import print_whole

_STYLES = {"same": "dim", "changed": "yellow", "removed": "red", "added": "green"}


def show_facts(facts: Mapping[str, Any], title: str, console: Console | None = None) -> None:
    """Print the facts of a census (`trtgate.measure.compute_share.facts`)."""
    out = console or Console()
    told = f"told by {facts['origin'].replace('_', ' ')}"
    origin = ", ".join(filter(None, (facts["runtime"], told)))
    _say(out, Text.assemble((printable(title), "bold"), f"  {printable(origin)}"))
    rows = [
        ("layers", f"{facts['layers']}, of which {facts['kernels']} kernels"),
        ("layer types", _counts(facts["kinds"])),
        ("multiplying layers", _counts(facts["compute_layers"])),
        ("casts", _names(facts["casts"])),
        ("layout changes", _names(facts["reformats"])),
    ]
    if "share" in facts:
        shares = ", ".join(f"{kind} {part:.1%}" for kind, part in facts["share"].items()) or "no matrix arithmetic"
        rows += [
            ("work", f"{facts['flops'] / 1e9:.3f} GFLOP an inference: {shares}"),
            *_nodes_by_datatype(facts["compute"]),
            ("fusion", f"{facts['source_nodes']} ONNX nodes, {facts['nodes_per_layer']:.2f} a kernel"),
            ("constants", _constants(facts)),
            ("duplicates", f"{facts['duplicates_removed']} removed; left: {_names(facts['duplicates_left'])}"),
            ("dead nodes left", _names(facts["dead_left"])),
        ]
    table = Table.grid(padding=(0, 2))
    for label, value in rows:
        table.add_row(Text(label, style="bold"), Text(value))
    _print(out, table)


def _constants(facts: Mapping[str, Any]) -> str:
    folded = f"{facts['constants_folded']} folded"
    unproven = f", {facts['constants_unproven']} not provable" if facts.get("constants_unproven") else ""
    return f"{folded}{unproven}; left: {_names(facts['constants_left'])}"


def _nodes_by_datatype(compute: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Which nodes run in which datatype, the heaviest first; nothing where all run in the same."""
    nodes: dict[str, list[str]] = {}
    for name, entry in sorted(compute.items(), key=lambda item: -item[1]["work"]):
        nodes.setdefault(entry["datatype"], []).append(f"{name} {entry['work']:.1%}")
    return [(f"  in {kind}", _names(names, 12)) for kind, names in nodes.items()] if len(nodes) > 1 else []


def show_layers(layers: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print one line a layer.

    Args:
        layers: ``name``, ``kind``, ``reads``, ``writes``, ``sources``, ``tactic``, and ``ms`` or None.
        console: where to; the terminal by default.
    """
    timed = any(layer["ms"] is not None for layer in layers)
    table = Table(box=None, header_style="bold")
    for heading in ("layer", "type", "reads", "writes", *(("ms",) if timed else ()), "tactic", "ONNX nodes"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "ms" else "left")
    for layer in layers:
        cells = [layer["name"], layer["kind"], layer["reads"], layer["writes"]]
        if timed:
            cells.append(_ms(layer["ms"]))
        table.add_row(*(Text(cell) for cell in (*cells, layer["tactic"], ", ".join(layer["sources"]))))
    _print(console or Console(), table)


def show_difference(
    rows: Sequence[Mapping[str, Any]],
    regressions: Sequence[str],
    titles: tuple[str, str],
    console: Console | None = None,
) -> None:
    """Print how two engines differ, layer by layer; equal layers are only counted.

    Args:
        rows: what `trtgate.measure.difference.LayerDifference.to_json` made.
        regressions: what `trtgate.judge.census.compare_census_facts` found.
        titles: of the engine that is compared with, and of the other.
        console: where to; the terminal by default.
    """
    out = console or Console()
    timed = any(row["base_ms"] is not None or row["other_ms"] is not None for row in rows)
    same = sum(row["change"] == "same" for row in rows)
    base, other = ((printable(title), "bold") for title in titles)
    _say(out, Text.assemble(other, " against ", base, f": {same} of {len(rows)} layers are the same."))
    table = Table(box=None, header_style="bold")
    for heading in ("", "layer", "was", *(("ms", "was ms") if timed else ()), "why"):
        table.add_column(heading, overflow="fold", justify="right" if "ms" in heading else "left")
    for row in rows:
        if row["change"] == "same" and not timed:
            continue
        cells = [row["other"] or "-", row["base"] or "-"]
        if timed:
            cells += [_ms(row["other_ms"]), _ms(row["base_ms"])]
        why = "; ".join(row["reasons"]) or ", ".join(row["sources"])
        table.add_row(Text(row["change"], style=_STYLES[row["change"]]), *(Text(cell) for cell in (*cells, why)))
    _print(out, table)
    for sentence in regressions:
        _say(out, Text(f"worse: {sentence}", style="red"))


# In a file or a pipe no line is folded: a layer's name that is cut in two cannot be searched for.


def _say(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=not console.is_terminal)


def _print(console: Console, table: Table) -> None:
    if console.is_terminal:
        console.print(table)
    else:
        print_whole(console, table)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _names(names: Sequence[str], at_most: int = 4) -> str:
    shown = ", ".join(names[:at_most]) + (f", and {len(names) - at_most} more" if len(names) > at_most else "")
    return f"{len(names)} ({shown})" if names else "none"
