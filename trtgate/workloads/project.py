"""The user's own workloads: the module ``trtgate_workloads`` on the import path, where there is one.

It holds ``WORKLOADS``, which maps a name to a function that takes the cache folder and returns a `Workload`::

    WORKLOADS = {"detector": DetectorWorkload}

A repository keeps it as trtgate_workloads.py at its root. The gate puts each side's tree first on the import path, so
that each side registers its own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trtgate import policy
from trtgate.case import BackendName, Case, Precision
from trtgate.errors import UsageError

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

MODULE: Final = "trtgate_workloads"
Factory = Callable[[Path], "Workload"]


def folder() -> Path | None:
    """The folder of the project's module, found without importing it; None where there is none."""
    found = importlib.util.find_spec(MODULE)
    return Path(found.origin).resolve().parent if found is not None and found.origin is not None else None


def is_in_sight(beside: Path | None) -> bool:
    """Whether a project's module is on the import path, or lies in the folder of a file.

    Args:
        beside: the file; None for no file.
    """
    places = () if beside is None else (beside.parent / f"{MODULE}.py", beside.parent / MODULE / "__init__.py")
    return folder() is not None or any(place.is_file() for place in places)


def find_policy(start: Path) -> Path | None:
    """The trtgate.toml of the project that registers workloads, else the one nearest to a folder.

    A checkout of trtgate that measures another repository's models, by PYTHONPATH, is held to that repository's rules.
    """
    place = folder()
    return (policy.find(place) if place is not None else None) or policy.find(start)


@functools.cache
def registered(taken: Collection[str]) -> Mapping[str, Factory]:
    """Workloads of the project.

    Args:
        taken: names that are in use; hashable.

    Raises:
        UsageError: no mapping ``WORKLOADS``, a name that is taken, or one that cannot stand in a case id.
        Exception: whatever importing the project's module raises; it is the user's own code.
    """
    if importlib.util.find_spec(MODULE) is None:
        return {}
    module = importlib.import_module(MODULE)
    found = getattr(module, "WORKLOADS", None)
    if not isinstance(found, Mapping) or not all(callable(factory) for factory in found.values()):
        raise UsageError(
            f"{module.__file__} has no mapping WORKLOADS of names to functions.",
            "Define WORKLOADS = {'name': function of the cache folder that returns a Workload}.",
        )
    for name in found:
        Case(name, BackendName.EAGER, Precision.FP32, 1)  # raises where the name cannot stand in a case id
        if name in taken:
            raise UsageError(f"{module.__file__} registers '{name}', which trtgate itself has.", "Choose another name.")
    return dict(found)
