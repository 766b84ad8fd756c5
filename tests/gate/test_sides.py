import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trtgate.errors import StorageError, UsageError
from trtgate.gate.folder import TREES, gate_folder
from trtgate.gate.sides import own_root, resolve, same_code


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


def test_both_sides_may_be_one_commit(repository, tmp_path):
    trees = {resolve("v1", label, tmp_path / "trees", repository).tree for label in ("base", "head")}
    assert trees == {tmp_path / "trees/base", tmp_path / "trees/head"}


def test_each_gate_has_checkouts_of_its_own_whatever_another_does_to_its(repository, tmp_path):
    with gate_folder(tmp_path / "cache") as one, gate_folder(tmp_path / "cache") as other:
        first, second = (resolve("v1", "base", folder / TREES, repository).tree for folder in (one, other))
        assert first != second
        (first / "model.py").write_text("VERSION = 99\n")  # a build step, or a person
        assert (second / "model.py").read_text() == "VERSION = 1\n"
    assert not first.exists()
    assert not second.exists()
    assert len(_git(repository, "worktree", "list").splitlines()) == 1  # the repository forgot them too


def test_a_fresh_clone_can_use_the_cache_of_an_earlier_one(repository, tmp_path):
    for name in ("monday", "tuesday"):
        _git(tmp_path, "clone", "-q", str(repository), name)
        with gate_folder(tmp_path / "cache") as folder:
            assert resolve("v1", "base", folder / TREES, tmp_path / name).tree.is_dir()
        shutil.rmtree(tmp_path / name)


_KILLED = """
import os, signal, sys
from pathlib import Path
from trtgate.gate.folder import TREES, gate_folder
from trtgate.gate.sides import resolve
cache, repository = map(Path, sys.argv[1:])
with gate_folder(cache) as folder:
    resolve("v1", "base", folder / TREES, repository)
    print(folder, flush=True)
    if sys.stdin.readline():
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("clone_is_gone", [False, True])
def test_what_a_killed_gate_left_is_swept_and_a_live_ones_is_not(repository, tmp_path, clone_is_gone):
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", _KILLED, cache, repository]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=own_root(), **pipes) as killed:
        folder = Path(killed.stdout.readline().strip())
        with gate_folder(cache):
            assert (folder / TREES / "base/model.py").is_file()  # it lives
        killed.stdin.write("now\n")
        killed.stdin.flush()
        assert killed.wait(30) == -signal.SIGKILL
    assert folder.is_dir()
    if clone_is_gone:
        shutil.rmtree(repository)
    with gate_folder(cache):
        assert not folder.exists()
    if not clone_is_gone:
        assert len(_git(repository, "worktree", "list").splitlines()) == 1


def test_a_disk_that_is_full_is_named_and_is_not_the_refs_fault(repository, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(
        f"""#!/bin/sh
case "$*" in *worktree*) echo "error: unable to write file model.py: No space left on device" >&2
    echo "fatal: Could not reset index file to revision 'HEAD'." >&2; exit 128;; esac
exec {shutil.which("git")} "$@"
"""
    )
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(StorageError, match=r"model\.py: No space left on device\. Free space there"):
        resolve("v1", "base", tmp_path / "trees", repository)


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


def test_sides_that_are_one_and_the_same_are_said_to_be(repository, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin/python").symlink_to(sys.executable)
    (tmp_path / "link").symlink_to(tmp_path / "one")

    def told(base, head):
        sides = [resolve(spec, label, tmp_path / "trees", tmp_path) for spec, label in ((base, "base"), (head, "head"))]
        return same_code(*sides)

    assert told("env:one", "env:link/bin/python").startswith("Both sides are the same environment, env:one")
    assert told("path:repository", "repository").startswith("Both sides are the same folder, path:repository")
    assert told("env:one", "env:two") == ""  # links to one interpreter, with packages of their own
    assert told("env:one", "path:repository") == ""


def test_two_names_of_one_commit_are_said_to_be_the_same_code(repository, tmp_path):
    sides = [resolve(ref, label, tmp_path / "trees", repository) for ref, label in (("v1", "base"), ("HEAD^", "head"))]
    assert same_code(*sides).startswith(f"Both sides are commit {sides[0].commit[:12]}: ")
    other = resolve("HEAD", "other", tmp_path / "trees", repository)
    assert same_code(sides[0], other) == ""
