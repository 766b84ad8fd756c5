"""The two sides of a gate: where each one's code and interpreter come from.

What is compared is *code*: a side is a tree of files that goes first on its workers' import path, or an installed
environment. Everything that the tree holds - models, a trtgate of its own - comes from the tree; everything that it
does not hold comes from the interpreter's installed packages, which two trees share and two environments do not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import trtgate
from trtgate.errors import NothingComparedError, StorageError, UsageError
from trtgate.gate.git import git, run_git

WORKING_TREE = "the working tree"
_PATH = "path:"
_ENV = "env:"
_FULL = ("No space left on device", "Disk quota exceeded")


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


def same_code(base: Side, head: Side) -> str:
    """Why both sides run the same code, in one sentence; empty where nothing says that they do.

    That is no mistake where somebody wants to know how well this machine repeats, and so it is said and not refused.
    """
    if base.tree is None and head.tree is None:
        # Not by the resolved interpreter alone: those of two virtual environments are links to one and the same.
        folders = [side.python.parent.resolve() for side in (base, head)]
        if folders[0] == folders[1] and base.python.resolve() == head.python.resolve():
            return f"Both sides are the same environment, {base.spec}: identical code is compared, not a change."
    elif base.tree is not None and head.tree is not None:
        if base.tree.resolve() == head.tree.resolve():
            return f"Both sides are the same folder, {base.spec}: identical code is compared, not a change."
        if base.commit is not None and base.commit == head.commit:
            return f"Both sides are commit {base.commit[:12]}: identical code is compared, not a change."
    return ""


def own_root() -> Path:
    """The folder that holds the running trtgate package."""
    return Path(trtgate.__file__).resolve().parent.parent


def resolve(spec: str | None, label: str, trees: Path, start: Path) -> Side:
    """Find what the user named.

    Args:
        spec: a git ref, an existing folder, ``path:FOLDER``, ``env:FOLDER`` of a virtual environment, or None for the
            working tree.
        label: ``base`` or ``head``.
        trees: folder for checkouts, of this gate alone.
        start: folder that relative paths and the git repository are looked up from.

    Raises:
        UsageError: there is no such ref, folder or environment, or the name could be two of them.
        SideError: git cannot check the ref out.
        StorageError: there is no room for it.
    """
    if spec is None:
        top = git(start, "rev-parse", "--show-toplevel")
        return Side(label, WORKING_TREE, Path(sys.executable), Path(top) if top else start.resolve())
    if spec.startswith(_ENV):
        return _environment(spec, label, start)
    if spec.startswith(_PATH):
        return _tree(start / spec.removeprefix(_PATH), spec, label)
    folder = start / spec
    commit = git(start, "rev-parse", "--verify", "--quiet", f"{spec}^{{commit}}")
    if commit and folder.is_dir() and not Path(spec).is_absolute():
        raise UsageError(
            f"'{spec}' is both a git ref and a folder.", f"Write '{_PATH}{spec}' for the folder or the ref's full name."
        )
    if commit:
        return Side(label, spec, Path(sys.executable), _check_out(commit, spec, trees / label, start), commit)
    if folder.is_dir():
        return _tree(folder, spec, label)
    inside = git(start, "rev-parse", "--show-toplevel")
    raise UsageError(
        f"The {label} '{spec}' is neither a git ref{f' of {inside}' if inside else ''} nor a folder.",
        f"Fetch it first ('git fetch origin {spec}'; CI checkouts are often shallow), or name a folder or "
        f"'{_ENV}FOLDER' of a virtual environment.",
    )


def _tree(folder: Path, spec: str, label: str) -> Side:
    if not folder.is_dir():
        raise UsageError(f"The {label} '{spec}' is not a folder.", "Name the folder that holds the side's code.")
    tree = folder.resolve()
    top = git(tree, "rev-parse", "--show-toplevel")
    commit = git(tree, "rev-parse", "HEAD") if top and Path(top) == tree and not git(tree, "status", "-s") else ""
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


def _check_out(commit: str, spec: str, tree: Path, start: Path) -> Path:
    """A detached git worktree of the commit."""
    try:
        tree.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{tree.parent} cannot be made ({error.strerror}).", "Name a writable folder with --cache."
        ) from None
    done = run_git(start, "worktree", "add", "--detach", str(tree), commit)
    if done.returncode != 0:
        full = next((line for line in done.stderr.splitlines() if any(word in line for word in _FULL)), None)
        if full is not None:
            raise StorageError(
                f"'{spec}' cannot be checked out to {tree}: {full.strip()}.",
                "Free space there, or name another folder with --cache.",
            )
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SideError(f"git cannot check out '{spec}' ({commit[:12]}): {last}.", "Run 'git fsck'.")
    return tree
