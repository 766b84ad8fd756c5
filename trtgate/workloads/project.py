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

from trtgate.case import BackendName, Case, Precision
from trtgate.errors import UsageError

if TYPE_CHECKING:
    from trtgate.workloads.base import Workload

MODULE: Final = "trtgate_workloads"
Factory = Callable[[Path], "Workload"]


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
