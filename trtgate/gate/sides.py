"""The two sides of a gate: where each one's code and interpreter come from.

What is compared is *code*: a side is a tree of files that goes first on its workers' import path, or an installed
environment. Everything that the tree holds - models, a trtgate of its own - comes from the tree; everything that it
does not hold comes from the interpreter's installed packages, which two trees share and two environments do not.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import trtgate
from trtgate.errors import NothingComparedError, StorageError, UsageError

_PATH = "path:"
_ENV = "env:"


class SideError(NothingComparedError):
    """A side's code cannot be set up, so that nothing can be compared: its checkout, setup or import failed."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a gate.

    Attributes:
        label: ``base`` or ``head``.
        spec: what the user wrote, for messages.
        python: interpreter of its workers.
        tree: folder of its code; None for an installed environment.
        commit: git commit, where there is one.
    """

    label: str
    spec: str
    python: Path
    tree: Path | None
    commit: str | None = None

    @property
    def title(self) -> str:
        """The side for a reader: what was asked for and, where known, its commit."""
        return f"{self.spec} ({self.commit[:12]})" if self.commit else self.spec

    @property
    def import_path(self) -> tuple[Path, ...]:
        """Folders that go first on the workers' PYTHONPATH, in order."""
        if self.tree is None:
            return ()
        folders = [self.tree]
        if (self.tree / "src").is_dir():
            folders.append(self.tree / "src")
        # A tree without a trtgate of its own is measured by the one that runs the gate, even where it is not installed.
        return (*folders, own_root())

    @property
    def has_own_trtgate(self) -> bool:
        """Whether the tree brings a trtgate, which must then be the one that its workers run."""
        return self.tree is not None and any(
            (folder / "trtgate" / "__init__.py").is_file() for folder in (self.tree, self.tree / "src")
        )


def own_root() -> Path:
    """The folder that holds the running trtgate package."""
    return Path(trtgate.__file__).resolve().parent.parent


def resolve(spec: str | None, label: str, cache: Path, start: Path) -> Side:
    """Find what the user named.

    Args:
        spec: a git ref, an existing folder, ``path:FOLDER``, ``env:FOLDER`` of a virtual environment, or None for the
            working tree.
        label: ``base`` or ``head``.
        cache: folder for checkouts.
        start: folder that relative paths and the git repository are looked up from.

    Raises:
        UsageError: there is no such ref, folder or environment, or the name could be two of them.
        SideError: git cannot check the ref out.
    """
    if spec is None:
        top = _git(start, "rev-parse", "--show-toplevel")
        return Side(label, "the working tree", Path(sys.executable), Path(top) if top else start.resolve())
    if spec.startswith(_ENV):
        return _environment(spec, label, start)
    if spec.startswith(_PATH):
        return _tree(start / spec.removeprefix(_PATH), spec, label)
    folder = start / spec
    commit = _git(start, "rev-parse", "--verify", "--quiet", f"{spec}^{{commit}}")
    if commit and folder.is_dir() and not Path(spec).is_absolute():
        raise UsageError(
            f"'{spec}' is both a git ref and a folder.", f"Write '{_PATH}{spec}' for the folder or the ref's full name."
        )
    if commit:
        return Side(label, spec, Path(sys.executable), _check_out(commit, spec, cache, start), commit)
    if folder.is_dir():
        return _tree(folder, spec, label)
    inside = _git(start, "rev-parse", "--show-toplevel")
    raise UsageError(
        f"The {label} '{spec}' is neither a git ref{f' of {inside}' if inside else ''} nor a folder.",
        f"Fetch it first ('git fetch origin {spec}'; CI checkouts are often shallow), or name a folder or "
        f"'{_ENV}FOLDER' of a virtual environment.",
    )


def _tree(folder: Path, spec: str, label: str) -> Side:
    if not folder.is_dir():
        raise UsageError(f"The {label} '{spec}' is not a folder.", "Name the folder that holds the side's code.")
    tree = folder.resolve()
    top = _git(tree, "rev-parse", "--show-toplevel")
    commit = _git(tree, "rev-parse", "HEAD") if top and Path(top) == tree and not _git(tree, "status", "-s") else ""
    return Side(label, spec, Path(sys.executable), tree, commit or None)


def _environment(spec: str, label: str, start: Path) -> Side:
    folder = start / spec.removeprefix(_ENV)
    # Not resolved: a virtual environment's interpreter is a link, and only its own path tells Python where it stands.
    found = next((path for path in (folder / "bin/python", folder) if path.is_file()), None)
    if found is None:
        raise UsageError(
            f"The {label} '{spec}' holds no Python interpreter.",
            "Name the folder of a virtual environment, or its interpreter.",
        )
    return Side(label, spec, found.absolute(), None)


def _check_out(commit: str, spec: str, cache: Path, start: Path) -> Path:
    """A detached git worktree of the commit; a clean one from an earlier run is used again."""
    tree = (cache / "trees" / commit).resolve()
    if tree.is_dir():
        if _git(tree, "rev-parse", "HEAD") == commit and _git(tree, "status", "--porcelain") == "":
            return tree
        # Someone changed files there, or an earlier checkout was cut short: what it holds is not the commit.
        _git(start, "worktree", "remove", "--force", str(tree))
    try:
        tree.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{tree.parent} cannot be made ({error.strerror}).", "Name a writable folder with --cache."
        ) from None
    done = _run_git(start, "worktree", "add", "--force", "--detach", str(tree), commit)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SideError(
            f"git cannot check out '{spec}' ({commit[:12]}): {last}.", "Run 'git worktree prune' and 'git fsck'."
        )
    return tree


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, or the empty string where it fails or is not installed."""
    done = _run_git(folder, *arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def _run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - arguments, no shell
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")
