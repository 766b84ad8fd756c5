"""Whether an NVIDIA GPU may be here, told by its driver's device files: to ask torch takes half a gigabyte."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

# The driver's devices, Windows' Subsystem for Linux, and Jetson.
_PATTERNS: Final = ("nvidia*", "dxg", "nvhost*", "nvgpu*")


def gpu_possible(devices: Path = Path("/dev")) -> bool:
    """False only where there is surely no GPU; where there may be one, `trtgate.backends.cuda_device` knows.

    Args:
        devices: folder of device files.
    """
    return not sys.platform.startswith("linux") or any(
        next(devices.glob(pattern), None) is not None for pattern in _PATTERNS
    )
