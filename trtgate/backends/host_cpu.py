"""Which CPU this is: its model, and the vector instructions that kernels are chosen by.

The model alone does not tell: a virtual machine may hide instructions that its neighbour of the same model has, and
another kernel means other times and, in int8, other results.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

# What ONNX Runtime's and PyTorch's kernels ask for, of x86 and of Arm, as Linux spells it.
_ASKED_FOR: Final = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)

# Without VNNI, ONNX Runtime's kernels for AVX2 and AVX-512 add products of int8 in int16, which saturates: a right
# model then fails parity on one CPU and passes on another. With this session option it takes kernels that do not;
# elsewhere it has no effect (onnxruntime_session_options_config_keys.h, kOrtSessionOptionsAvx2PrecisionMode).
EXACT_INT8: Final = ("session.x64quantprecision", "1")


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model of the CPU as the kernel names it, else the platform, else its architecture; then its instructions."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = _value(lines, "model name") or platform.processor() or platform.machine()
    flags = (_value(lines, "flags") or _value(lines, "Features")).split()
    return " ".join([model, *(name for name in _ASKED_FOR if name in flags)])


def _value(lines: list[str], field: str) -> str:
    named = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in named if name.strip() == field and value.strip()), "")
