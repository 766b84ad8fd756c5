"""A folder of compiled artefacts that are used only if they are exactly what was asked for, bit by bit.

An entry is a content file, whose name holds its digest, and a JSON sidecar, whose name is the digest of the key. The
sidecar is the commit point: it is replaced in one step and names the content that belongs to it, so that two processes
that build the same key at once, a full disk or a kill at any moment leave either a whole entry or none.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trtgate import artefacts
from trtgate.errors import StorageError, TrtgateWarning

_SCHEMA: Final = 1


class PlanCacheWarning(TrtgateWarning):
    """A cached artefact was damaged or foreign and is built again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified artefact.

    Attributes:
        path: the content file.
        content: its bytes, as they were when the digest was checked.
        digest: SHA-256 of the content, in hexadecimal.
        details: plain-JSON facts that were stored with it.
    """

    path: Path
    content: bytes
    digest: str
    details: dict[str, Any]


class PlanCache:
    """Artefacts of one kind in one folder.

    Args:
        folder: made when the first artefact is stored.
        suffix: of the content files, with its dot.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self.suffix = suffix

    def load(self, key: Mapping[str, object]) -> Entry | None:
        """The artefact of this key, or None where there is none that can be trusted.

        Args:
            key: everything that shapes the artefact, as plain JSON.

        Warns:
            PlanCacheWarning: there is one, but it is torn, edited, or belongs to another key.
        """
        sidecar = self._sidecar(key)
        if not sidecar.exists():
            return None
        try:
            return self._verified(sidecar, key)
        except _UnusableError as error:
            warnings.warn(f"{error}; it is built again.", PlanCacheWarning, stacklevel=2)
            return None

    def _verified(self, sidecar: Path, key: Mapping[str, object]) -> Entry:
        try:
            stored = json.loads(_content(sidecar))
        except ValueError:
            raise _UnusableError(f"{sidecar} is not JSON") from None
        if not isinstance(stored, dict) or stored.get("schema") != _SCHEMA:
            raise _UnusableError(f"{sidecar} is not a sidecar of this release")
        if stored.get("key") != json.loads(json.dumps(key)):
            raise _UnusableError(f"{sidecar} belongs to something else")
        # Only the name: a sidecar never leads out of its folder.
        path = self.folder / Path(str(stored.get("file"))).name
        content = _content(path)
        digest = hashlib.sha256(content).hexdigest()
        if digest != stored.get("sha256"):
            raise _UnusableError(f"{path} is truncated or altered ({len(content)} bytes with another digest)")
        details = stored.get("details")
        return Entry(path, content, digest, details if isinstance(details, dict) else {})

    def store(self, key: Mapping[str, object], content: bytes | memoryview, details: Mapping[str, object]) -> Entry:
        """Keep an artefact, in place of an older one of the same key.

        Raises:
            StorageError: the folder cannot be written, or the disk is full.
        """
        kept = bytes(content)
        digest = hashlib.sha256(kept).hexdigest()
        sidecar = self._sidecar(key)
        path = self.content_path(key, digest)
        record = {"schema": _SCHEMA, "key": key, "file": path.name, "sha256": digest, "details": details}
        previous = self._content_name(sidecar)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            artefacts.replace(path, kept)
            artefacts.replace(sidecar, json.dumps(record, indent=1, sort_keys=True).encode())
            # Only what this key pointed at before: another process may be about to commit a content of its own, and a
            # sidecar that was copied from elsewhere names what belongs to another key.
            if previous is not None and previous != path.name and previous.startswith(f"{sidecar.stem}-"):
                (self.folder / previous).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"The cache folder {self.folder} cannot be written ({error.strerror or error}).",
                "Free space there, or name another cache folder that is writable.",
            ) from error
        return Entry(path, kept, digest, dict(details))

    def content_path(self, key: Mapping[str, object], digest: str) -> Path:
        """Where the artefact of a key lies if its content has this SHA-256."""
        return self.folder / f"{self._sidecar(key).stem}-{digest[:16]}{self.suffix}"

    def holds(self, name: str, digest: str) -> bool:
        """Whether a content file is whole and still what its key stands for: not built again since, not altered.

        Args:
            name: of the file. It is hashed in pieces, not held in memory.
            digest: SHA-256 that its bytes should have.
        """
        path = self.folder / Path(name).name
        try:
            stored = json.loads((self.folder / f"{path.stem.rpartition('-')[0]}.json").read_bytes())
            current = isinstance(stored, dict) and stored.get("schema") == _SCHEMA
            return current and (stored["file"], stored["sha256"]) == (name, digest) and artefacts.digest(path) == digest
        except (OSError, ValueError, KeyError):
            return False

    def _sidecar(self, key: Mapping[str, object]) -> Path:
        return self.folder / f"{artefacts.key(**key)}.json"

    @staticmethod
    def _content_name(sidecar: Path) -> str | None:
        try:
            return Path(str(json.loads(sidecar.read_bytes())["file"])).name
        except (OSError, ValueError, KeyError, TypeError):
            return None


def of_plans(cache: Path) -> PlanCache:
    """Where serialised engines are kept below a cache folder."""
    return PlanCache(cache / "plans", ".plan")


class _UnusableError(Exception):
    """Why an entry is not used, as a clause; never leaves this file."""


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _UnusableError(f"{path} cannot be read ({error.strerror})") from None
