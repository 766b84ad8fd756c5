import subprocess
import sys
from pathlib import Path

import pytest

from trtgate.errors import UsageError
from trtgate.gate.sides import own_root, resolve


def _git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    top = tmp_path / "repository"
    top.mkdir()
    _git(top, "init", "-q")
    (top / "model.py").write_text("VERSION = 1\n")
    _git(top, "add", ".")
    _git(top, "commit", "-qm", "one")
    _git(top, "tag", "v1")
    (top / "model.py").write_text("VERSION = 2\n")
    _git(top, "commit", "-qam", "two")
    return top


def test_a_ref_is_checked_out_beside_the_working_tree(repository, tmp_path):
    side = resolve("v1", "base", tmp_path / "cache", repository)
    assert (side.tree / "model.py").read_text() == "VERSION = 1\n"
    assert (repository / "model.py").read_text() == "VERSION = 2\n"
    assert side.commit == _git(repository, "rev-parse", "v1")
    assert side.python == Path(sys.executable)
    assert side.import_path == (side.tree, own_root())


def test_a_checkout_is_used_again_unless_someone_changed_it(repository, tmp_path):
    tree = resolve("v1", "base", tmp_path / "cache", repository).tree
    (tree / "model.py").write_text("VERSION = 99\n")
    again = resolve("v1", "base", tmp_path / "cache", repository).tree
    assert again == tree
    assert (tree / "model.py").read_text() == "VERSION = 1\n"


def test_without_a_name_it_is_the_working_tree_with_its_uncommitted_changes(repository, tmp_path):
    (repository / "model.py").write_text("VERSION = 3\n")
    (repository / "deeper").mkdir()
    side = resolve(None, "head", tmp_path / "cache", repository / "deeper")
    assert side.tree == repository
    assert side.commit is None


def test_a_folder_needs_no_git(tmp_path):
    (tmp_path / "tree/src").mkdir(parents=True)
    for spec in ("tree", "path:tree", str(tmp_path / "tree")):
        side = resolve(spec, "base", tmp_path / "cache", tmp_path)
        assert side.import_path[:2] == (tmp_path / "tree", tmp_path / "tree/src")
        assert side.commit is None


def test_a_ref_that_does_not_exist_is_named(repository, tmp_path):
    with pytest.raises(UsageError, match=r"The base 'no-such-branch' is neither a git ref.*Fetch it first"):
        resolve("no-such-branch", "base", tmp_path / "cache", repository)


def test_a_name_that_is_a_ref_and_a_folder_is_not_guessed(repository, tmp_path):
    (repository / "v1").mkdir()
    with pytest.raises(UsageError, match="both a git ref and a folder"):
        resolve("v1", "base", tmp_path / "cache", repository)
    assert resolve("path:v1", "base", tmp_path / "cache", repository).tree == repository / "v1"


def test_an_environment_is_its_own_interpreter_and_no_tree(tmp_path):
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    side = resolve("env:venv", "base", tmp_path / "cache", tmp_path)
    assert side.python == tmp_path / "venv/bin/python"  # the link itself: resolving it would leave the environment
    assert side.import_path == ()


@pytest.mark.parametrize("spec", ["env:nowhere", "path:nowhere"])
def test_a_folder_that_is_not_there_is_refused(spec, tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        resolve(spec, "head", tmp_path / "cache", tmp_path)
