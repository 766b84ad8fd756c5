"""Files that are expensive to make and must never be trusted blindly: written atomically, checked by digest before use.

An artefact is a file and, beside it, a sidecar ``<name>.sha256`` that holds the digest of its bytes. A reader uses the
file only if the two agree, so a torn write, a full disk, a flipped bit or an edited file ends as "make it again".
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from trtgate.errors import StorageError

_DIGESTS_KEPT = 256


def make_cache(folder: Path) -> Path:
    """Make a cache folder that git ignores, wherever it lies; one that is there already stays as it is.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")
    except FileExistsError:
        pass  # perhaps the user's own folder, whose files git is to see
    except OSError as error:
        raise StorageError(
            f"The cache folder {folder} cannot be made ({error.strerror}).", "Name another one that is writable."
        ) from None
    return folder


def key(**parts: object) -> str:
    """Digest of everything that shapes an artefact: 32 hexadecimal digits of the SHA-256 of canonical JSON.

    Args:
        parts: plain JSON values by name.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    A process reads a file once for as long as its size, its times and its inode stay: models are hundreds of megabytes.
    """
    state = path.stat()
    return _digest(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=_DIGESTS_KEPT)
def _digest(path: Path, *state: int) -> str:
    del state  # part of the key alone
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sidecar(path: Path) -> Path:
    """Where the digest of an artefact is kept."""
    return path.with_name(path.name + ".sha256")


def intact(path: Path) -> bool:
    """Whether the artefact is there and its bytes are those that were written."""
    try:
        return sidecar(path).read_text(encoding="ascii").strip() == digest(path)
    except (OSError, UnicodeDecodeError):
        return False


def replace(path: Path, content: bytes) -> None:
    """Replace a file as a whole: readers see the old content or the new, also after a crash or on a full disk.

    Raises:
        OSError: it could not be written; the old file is untouched.
    """
    # Of no suffix that anybody looks for: neither pytest-benchmark nor we may take a half-written file for a run.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(path.stat().st_mode if path.exists() else 0o644)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write(path: Path, writer: Callable[[Path], None]) -> Path:
    """Make an artefact: ``writer`` fills a temporary file, which then takes its place in one step.

    Two processes may write the same artefact at once: the last one wins, and a reader in between sees either a whole
    file or a digest that does not agree.

    Args:
        path: where the artefact belongs; its folder is made.
        writer: called with the temporary file's path, which has the suffix of ``path``.

    Raises:
        StorageError: the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            writer(made)
            checksum = sidecar(made)
            checksum.write_text(digest(made) + "\n", encoding="ascii")
            made.replace(path)
            checksum.replace(sidecar(path))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}).",
            "Free space there, or name another cache folder that is writable.",
        ) from error
    return path
