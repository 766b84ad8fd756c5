"""What a wheel holds: the library and its types. The suite belongs to a checkout."""

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_wheel_brings_one_importable_name():
    """Another distribution is called fixtures, and conftest.py, which makes the suite, would not be there."""
    wanted = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    found = {
        path.parent.relative_to(ROOT)
        for folder in ("trtgate", "fixtures", "benchmarks")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    shipped = {
        name for name in (".".join(path.parts) for path in found) if any(fnmatch.fnmatchcase(name, p) for p in wanted)
    }
    assert {name.partition(".")[0] for name in shipped} == {"trtgate"}
    assert {path.parts[0] for path in found} == {"trtgate", "fixtures", "benchmarks"}
    assert {".".join(path.parts) for path in found if path.parts[0] == "trtgate"} == shipped


def test_the_wheel_says_that_it_is_typed():
    assert (ROOT / "trtgate/py.typed").is_file()
    assert PROJECT["tool"]["setuptools"]["package-data"]["trtgate"] == ["py.typed"]
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_linux_is_named_as_the_system():
    systems = [one for one in PROJECT["project"]["classifiers"] if one.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux"]
    assert "Linux" in (ROOT / "README.md").read_text()
