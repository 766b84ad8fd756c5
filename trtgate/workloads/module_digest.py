"""What a module is, told by itself: a fingerprint that somebody forgot to change must not measure yesterday's model."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import re
from pathlib import Path
from typing import Final

from torch import nn

from trtgate.workloads import weights

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")  # another in each process
_KNOWN_BY_VERSION: Final = frozenset({"torch", "builtins", "typing", "abc"})


def digest_of(module: nn.Module) -> str:
    """Digest of a module's structure, its parameters and buffers, and the source files of its classes.

    What its classes call in other files is not in it: whoever changes that changes the workload's fingerprint.
    """
    found = hashlib.sha256(_ADDRESS.sub("", repr(module)).encode())
    tensors = itertools.chain(module.named_parameters(), module.named_buffers())
    found.update(weights.digest_of_tensors(tensors).encode())
    for source in sorted({path.read_bytes() for path in _sources(module)}):
        found.update(source)
    return found.hexdigest()


def _sources(module: nn.Module) -> set[Path]:
    """Files in which the classes of its parts are written."""
    found = set()
    for kind in {base for part in module.modules() for base in type(part).__mro__}:
        if kind.__module__.partition(".")[0] in _KNOWN_BY_VERSION:
            continue
        try:
            found.add(Path(inspect.getfile(kind)))
        except (TypeError, OSError):  # written in no file: an interpreter's prompt, what torch.fx made
            continue
    return {path for path in found if path.is_file()}
