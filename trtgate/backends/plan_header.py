"""What the first bytes of a serialised engine tell: that it is one, who built it, and how long it should be.

Needs neither TensorRT nor torch nor a GPU. A plan begins with a tag of four characters that ends in ``trt``. The bytes
at offset 24 are the builder's version, one a part: NVIDIA's answer in
https://github.com/NVIDIA/TensorRT/issues/3073. Read off plans of TensorRT-RTX 1.4.0.76 and 1.6.1.120: the tag is
``vtrt``, and the eight bytes at offset 16 are the file's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trtgate.backends import trt_installed
from trtgate.errors import PlanError

_BYTES: Final = 28
_TAG_END: Final = b"trt"
_SIZED_TAG: Final = b"vtrt"
_SIZE: Final = slice(16, 24)
_VERSION: Final = slice(24, 28)
# TensorRT-RTX counts from 1; TensorRT had long passed 5 when that began.
_OLDEST_TENSORRT: Final = 5


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """Who built a plan: ``tensorrt`` or ``tensorrt_rtx``, and its version, such as ``1.6.1.120``."""

    flavour: str
    version: str

    @property
    def builder(self) -> str:
        """Flavour and version, as a census names its runtime."""
        return f"{self.flavour} {self.version}"

    def built_by(self, flavour: str | None, version: str) -> bool:
        """Whether this very version built it; a distribution's version may have a suffix, such as ``.post1``."""
        return self.flavour == flavour and self.version == ".".join(version.split(".")[:4])


def read_header(path: Path) -> PlanHeader | None:
    """Read the first bytes of a file.

    Returns:
        None where it does not begin as a serialised engine does.

    Raises:
        PlanError: the file cannot be read, is empty, or is shorter than its own header says.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_BYTES)
        present_bytes = path.stat().st_size
    except OSError as error:
        raise PlanError(f"The plan {path} cannot be read ({error.strerror}).", "Name a readable plan file.") from None
    if not head:
        raise PlanError(f"The plan {path} is empty.", "Build it again.")
    if head[1:4] != _TAG_END:
        return None
    stated_bytes = int.from_bytes(head[_SIZE], "little")
    if len(head) < _BYTES or (head.startswith(_SIZED_TAG) and present_bytes < stated_bytes):
        wanted = f"says that it has {stated_bytes}" if len(head) == _BYTES else "is cut off"
        raise PlanError(
            f"The plan {path} is truncated: it has {present_bytes} bytes, and its header {wanted}.",
            "Copy it again, or build it again.",
        )
    version = head[_VERSION]
    flavour = "tensorrt_rtx" if version[0] < _OLDEST_TENSORRT else "tensorrt"
    return PlanHeader(flavour, ".".join(str(part) for part in version))


def foreign_builder(header: PlanHeader | None) -> str | None:
    """Who built a plan, where that is not the TensorRT that is installed here; None where it is, or is not known."""
    flavour, version = trt_installed.versions()
    foreign = header is not None and version is not None and not header.built_by(flavour, version)
    return header.builder if header is not None and foreign else None


def require_own(path: Path) -> None:
    """Refuse, where no GPU can load it, a file that is no plan, and a plan of another version.

    Raises:
        PlanError: it is; or it cannot be read, is empty or truncated.
    """
    header = read_header(path)
    if header is None:
        with path.open("rb") as file:
            start = file.read(16)
        raise PlanError(
            f"{path} is not a serialised engine: it begins with {start!r}.",
            "Name a plan file, the engine inspector's JSON (.json), a builder's verbose log (.log), or a case id.",
        )
    if builder := foreign_builder(header):
        flavour, version = trt_installed.versions()
        raise PlanError(
            f"{path} was built by {builder}, and {flavour} {version} is installed here.",
            "Inspect it where that version and a GPU are, or build the model again with the version that is here.",
        )
