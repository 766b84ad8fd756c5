"""How a model becomes fp32, tf32, fp16, bf16, int8 or fp8: one file a technique."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from trtgate import artefacts


@cache
def code() -> tuple[str, ...]:
    """Digests of this room's files: what they made must not be taken for what they would make after a change."""
    return tuple(artefacts.digest(source) for source in sorted(Path(__file__).parent.glob("*.py")))
