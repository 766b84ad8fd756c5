"""Which loaded modules lie in a folder that is not this side's: code that both sides would then share.

A package that is installed editable, or that a hook puts on the import path, is imported from one place by every
worker, whatever tree the worker is to measure.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# Environments may lie inside a tree, as .venv does; what is installed there belongs to no side.
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def foreign_modules(roots: Sequence[str], own: Sequence[str]) -> dict[str, str]:
    """Files of loaded modules, by module, that lie below one of ``roots`` and not below one of ``own``.

    Args:
        roots: folders of the other sides' code.
        own: folders that this process may import from, which may lie inside the others, or the others inside them.
    """
    found = {}
    for name, module in sorted(sys.modules.items()):
        text = getattr(module, "__file__", None)
        if not isinstance(text, str):
            continue
        path = Path(text).resolve()
        # The innermost folder owns a file: a checkout may lie inside the working tree.
        depths = {folder: len(Path(folder).parts) for folder in (*roots, *own) if path.is_relative_to(folder)}
        nearest = max(depths, key=depths.__getitem__, default=None)
        if nearest is not None and nearest not in own and not _INSTALLED & set(path.parts):
            found[name] = str(path)
    return found
