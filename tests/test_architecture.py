"""The rules of the house that a script can hold: sizes, import directions, and what works without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("trtgate", "fixtures", "benchmarks", "tests")
SOURCES = [ROOT / "conftest.py", *sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
LIMIT = 300


def modules(*rooms: str) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
    ]


def imported_names(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_the_limit(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LIMIT


def test_imports_go_one_way():
    """import-linter's contracts in pyproject.toml are kept."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_room_has_its_place_in_the_order_of_imports():
    """import-linter says nothing of a module that no layer names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name for layer in layers for name in layer.split(" | ")}
    found = {
        path.stem for path in (ROOT / "trtgate").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert {f"trtgate.{name}" for name in found - {"__init__"}} == {
        name for name in named if name.startswith("trtgate")
    }


@pytest.mark.parametrize("vendor", ["torch_tensorrt", "modelopt", "onnxruntime", "tensorrt", "tensorrt_rtx"])
def test_vendors_are_imported_only_where_they_are_wrapped(vendor):
    rooms = {
        path.relative_to(ROOT).parts[1] for path in (ROOT / "trtgate").rglob("*.py") if vendor in imported_names(path)
    }
    assert rooms <= {"backends", "precision", "measure"}


def test_the_library_never_imports_pytest():
    offenders = [path for path in (ROOT / "trtgate").rglob("*.py") if imported_names(path) & {"pytest", "_pytest"}]
    assert offenders == []


def test_judging_storing_and_reporting_work_where_torch_is_not_installed():
    """A finder that refuses torch stands in for an environment without it."""
    names = modules("trtgate/judge", "trtgate/store", "trtgate/report")
    names += ["trtgate", "trtgate.cli", "trtgate.record", "trtgate.case", "trtgate.policy", "trtgate.errors"]
    program = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "tensorrt", "tensorrt_rtx", "torch_tensorrt", "onnxruntime"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_places_that_contributing_names_exist():
    named = re.findall(r"`([\w./]+(?:\.(?:py|md|toml)|/))`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [place for place in named if not (ROOT / place).exists()] == []
