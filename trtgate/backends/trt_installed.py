"""Which TensorRT is installed, told by distribution metadata alone: nothing is imported, not even torch.

torch-tensorrt-rtx registers TensorRT-RTX under the import name ``tensorrt``, so an import proves nothing, and importing
it without a GPU raises.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from typing import Final, Literal

from trtgate.backends.base import YES, Answer, no
from trtgate.errors import UnknownValueError

Flavour = Literal["tensorrt", "tensorrt_rtx"]

CHOICE_VARIABLE: Final = "TRTGATE_TENSORRT"
OLDEST: Final = (10, 15)
# The front-end packages are metapackages; a folder on PYTHONPATH may hold the bindings' metadata alone.
_DISTRIBUTIONS: Final[dict[Flavour, tuple[str, ...]]] = {
    "tensorrt": tuple(f"tensorrt{cuda}{part}" for part in ("", "-bindings") for cuda in ("", "-cu13", "-cu12")),
    "tensorrt_rtx": tuple(f"tensorrt-rtx{cuda}{part}" for part in ("", "-bindings") for cuda in ("", "-cu13", "-cu12")),
}


@dataclass(frozen=True, slots=True)
class Installed:
    """A TensorRT that is installed: its flavour, which is also its import name, and its version."""

    flavour: Flavour
    version: str


def installed() -> tuple[Installed, ...]:
    """Every flavour that has distribution metadata here; nothing is imported."""
    found = []
    for flavour, distributions in _DISTRIBUTIONS.items():
        for name in distributions:
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            found.append(Installed(flavour, version))
            break
    return tuple(found)


def find() -> Installed | Answer:
    """The flavour to use, or why there is none.

    Raises:
        UnknownValueError: TRTGATE_TENSORRT names no flavour.
    """
    chosen = os.environ.get(CHOICE_VARIABLE)
    if chosen is not None and chosen not in _DISTRIBUTIONS:
        raise UnknownValueError(f"TensorRT flavour in {CHOICE_VARIABLE}", chosen, _DISTRIBUTIONS)
    found = installed()
    usable = [one for one in found if chosen in (None, one.flavour)]
    if len(usable) > 1:
        both = " and ".join(f"{one.flavour} {one.version}" for one in usable)
        return no(
            f"Both TensorRT flavours are installed ({both}); "
            f"uninstall one, or set {CHOICE_VARIABLE} to tensorrt or tensorrt_rtx."
        )
    if not usable:
        wanted = chosen or "neither tensorrt nor tensorrt_rtx"
        return no(f"{wanted} is {'not ' if chosen else ''}installed; install the extra 'rtx' or 'tensorrt' of trtgate.")
    one = usable[0]
    if one.flavour == "tensorrt" and _release(one.version) < OLDEST:
        return no(f"TensorRT {one.version} is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that is supported.")
    return one


def versions() -> tuple[Flavour | None, str | None]:
    """Flavour and version for a record's identity; (None, None) where TensorRT cannot be used. Imports nothing."""
    try:
        found = find()
    except UnknownValueError:
        return (None, None)
    return (found.flavour, found.version) if isinstance(found, Installed) else (None, None)


def installed_answer() -> Answer:
    """Whether exactly one usable TensorRT is installed, or why not. Imports nothing, never raises."""
    try:
        found = find()
    except UnknownValueError as error:
        return no(str(error))
    return found if isinstance(found, Answer) else YES


def _release(version: str) -> tuple[int, int]:
    major, minor = [*version.split("."), "0"][:2]
    return int(major), int(minor)
