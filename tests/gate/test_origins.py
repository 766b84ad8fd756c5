"""Both sides of a gate running one and the same package is found, however it came onto the import path."""

import argparse
import sys
from types import SimpleNamespace

import pytest
from tree import case_of, write_tree

from trtgate.commands import gate as command
from trtgate.gate.origins import foreign_modules
from trtgate.gate.sides import SideError


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    def load(**files):
        modules = {name: SimpleNamespace(__file__=file and str(tmp_path / file)) for name, file in files.items()}
        monkeypatch.setattr(sys, "modules", modules)

    return load


def test_what_lies_in_another_sides_tree_is_named(loaded, tmp_path):
    loaded(ours="base/m.py", theirs="head/python/m.py", neither="elsewhere/m.py", builtin=None)
    found = foreign_modules([str(tmp_path / "head")], [str(tmp_path / "base")])
    assert found == {"theirs": str(tmp_path / "head/python/m.py")}


def test_a_checkout_inside_the_working_tree_and_an_environment_in_it_are_no_foreign_code(loaded, tmp_path):
    loaded(ours="top/.trtgate/base/m.py", torch="top/.venv/lib/python3.12/site-packages/torch.py", theirs="top/m.py")
    found = foreign_modules([str(tmp_path / "top")], [str(tmp_path / "top/.trtgate/base")])
    assert set(found) == {"theirs"}


def test_a_package_that_both_sides_import_from_the_head_is_no_gate(tmp_path, monkeypatch):
    """As an editable installation of a package that lies neither at the tree's root nor in src/ does."""
    trees = []
    for side in ("base", "head"):
        tree = write_tree(tmp_path / side, {"small": "layers=2"})
        (tree / "python").mkdir()
        (tree / "python/our_model.py").write_text("LAYERS = 2\n")
        registered = tree / "trtgate_workloads.py"
        registered.write_text(f"import our_model\n{registered.read_text()}")
        trees.append(tree)
    monkeypatch.setenv("PYTHONPATH", str(trees[1] / "python"))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ["--device", "cpu", "--case", case_of("small"), "--cache", str(tmp_path / "cache")]
    with pytest.raises(SideError, match=r"base side imported our_model from .*head/python/our_model\.py, not from"):
        command.run(parser.parse_args([*map(str, trees), *options]))
