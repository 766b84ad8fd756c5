"""Recorded engines for the inspection tests; see tests/data/engines/README.md."""

import gzip
import json
from pathlib import Path

from trtgate.measure.build_log import parse_build_log
from trtgate.measure.census import Census, SourceNode
from trtgate.measure.inspector_json import parse_inspector_json

FOLDER = Path(__file__).parents[1] / "data" / "engines"


def text(name: str) -> str:
    path = FOLDER / name
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")


def logged(name: str) -> Census:
    """A census from a recorded log, with the source nodes that were recorded beside it."""
    return with_sources(parse_build_log(text(f"{name}.log.gz").split("\n")), name)


def with_sources(found: Census, name: str) -> Census:
    nodes = tuple(SourceNode.model_validate(node) for node in json.loads(text(f"{name}.sources.json.gz")))
    return found.model_copy(update={"sources": nodes})


def inspected(name: str) -> Census:
    return parse_inspector_json(text(name))
