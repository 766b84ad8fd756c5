"""What a layer's type and name tell about the work it does.

The words below were read off engines of TensorRT-RTX 1.4 and 1.6 (Myelin: ``kgen``, ``gemm``, ``correlation``,
``runtime_fusion``; a kernel's name spells its operations, cut to four letters: ``__myl_FcAddDivCastErf_myl0_5``) and
off NVIDIA's documentation of TensorRT 10 and 11 (``CaskConvolution``, ``Reformat``, ``NoOp``, ...).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Final

from trtgate.measure.census import Role

_SYNCHRONISATION: Final = frozenset({"signal", "wait", "noop", "constant", "barrier", "cjmp", "jmp", "shape_call"})
_MOVEMENT: Final = frozenset(
    {"reformat", "shuffle", "slice", "concat", "concatenation", "cast", "identity", "copy", "memset", "padding"}
    | {"gather", "transpose", "reshape", "squeeze", "unsqueeze", "expand", "split", "flatten"}
    | {"reordernchwc", "reorderoutput"}
)
# Substrings of lower-case layer types. "conv" also finds CaskConvolution, ConvInteger, FusedConv and QLinearConv.
_COMPUTE: Final = (
    "conv",
    "correlation",
    "gemm",
    "matmul",
    "matrixmultiply",
    "matrix_multiply",
    "fullyconnected",
    "attention",
    "mha",
    "einsum",
    "lstm",
    "gru",
    "rnn",
)

_KERNEL_OPERATIONS: Final = re.compile(r"__my(?:l|e)_(?P<operations>[A-Za-z0-9]+?)(?:_my[le]\d+_\d+|_0x[0-9a-f]+)?$")
_OPERATION: Final = re.compile(r"[A-Z][a-z0-9]*")
_MOVING_OPERATIONS: Final = frozenset(
    {"Move", "Tran", "Resh", "Conc", "Slic", "Cast", "Pad", "Copy", "Gath", "Expa", "Rep", "Bcas", "Sque", "Unsq"}
)
_COMPUTING_OPERATIONS: Final = frozenset({"Fc", "Corr", "Conv", "Dot", "Gemm", "Matm", "Mha", "Deco", "Attn"})
_POINTWISE_OPERATIONS: Final = frozenset({"Relu", "Sigm", "Sqrt", "Tanh"})
_SHORT: Final = 3


def _long_names() -> dict[str, str]:
    """The operation that three letters stand for, where they stand for one: Con may be Conc or Conv, Exp is Exp."""
    known = _MOVING_OPERATIONS | _COMPUTING_OPERATIONS | _POINTWISE_OPERATIONS | {"Exp"}
    alike = Counter(name[:_SHORT] for name in known)
    return {name[:_SHORT]: name for name in known if alike[name[:_SHORT]] == 1}


_LONG: Final = _long_names()
_MYELIN_SUFFIX: Final = re.compile(r"_my[le]\d+_\d+$")
_HIDDEN_TACTICS: Final = frozenset({"", "__myelin_CASK_STUB"})


def operations_of(name: str) -> tuple[str, ...]:
    """Decode the operations out of the name of a generated kernel; empty for every other name.

    >>> operations_of("__myl_FcAddDivCastErf_myl0_5")
    ('Fc', 'Add', 'Div', 'Cast', 'Erf')

    Releases that cut them to three letters are read as those that cut them to four:

    >>> operations_of("__myl_TraMaxSubExpSum_myl0_1")
    ('Tran', 'Max', 'Sub', 'Exp', 'Sum')
    """
    match = _KERNEL_OPERATIONS.match(name)
    found = _OPERATION.findall(match["operations"]) if match else []
    return tuple(_LONG.get(one, one) if len(one) == _SHORT else one for one in found)


def role_of(kind: str, name: str, operations: tuple[str, ...]) -> Role:
    """Tell what a layer is for.

    Args:
        kind: LayerType of the inspector, or the operator of ONNX Runtime.
        name: name of the layer.
        operations: what `operations_of` read from the name.
    """
    lower = kind.lower().replace("convert", "cast")  # no convolution, whatever its first letters are
    if lower in _SYNCHRONISATION:
        return Role.SYNCHRONISATION
    if any(word in lower for word in _COMPUTE) or "_mha" in name or "gemm_" in name:
        return Role.COMPUTE
    if operations:
        if not _COMPUTING_OPERATIONS.isdisjoint(operations):
            return Role.COMPUTE
        return Role.MOVEMENT if _MOVING_OPERATIONS.issuperset(operations) else Role.POINTWISE
    return Role.MOVEMENT if lower in _MOVEMENT else Role.POINTWISE


def multiplies_rows(operations: tuple[str, ...]) -> bool:
    """Whether a kernel multiplies and then sums up, as a product of a matrix and a vector does.

    A kernel that also holds a constant matrix is such a product: at batch 1 Myelin writes linear layers so.
    """
    arithmetic = [one for one in operations if one not in _MOVING_OPERATIONS]
    return ("Mul", "Sum") in itertools.pairwise(arithmetic)


def tactic_of(text: str) -> str | None:
    """The tactic's name, or None where the runtime does not tell it."""
    return None if text in _HIDDEN_TACTICS else text


def sources_of(metadata: str, name: str, role: Role) -> tuple[str, ...]:
    r"""The ONNX nodes that a layer covers.

    Args:
        metadata: ``[ONNX Layer: a]`` items separated by U+001F (U+001E separates groups).
        name: used where the metadata is empty and the layer computes: Myelin then joins node names by ``+``.
        role: role of the layer.
    """
    # Rewritten nodes carry a tail behind the bracket: "[ONNX Layer: conv]__gemm_from_conv1x1".
    found = [
        part[: part.rindex("]")].strip().removeprefix("[ONNX Layer:").strip()
        for part in re.split("[\x1e\x1f]", metadata)
        if part.strip().startswith("[ONNX Layer:") and "]" in part
    ]
    if not found and role is Role.COMPUTE and not name.startswith("_"):
        found = [part.strip() for part in _MYELIN_SUFFIX.sub("", name).split("+")]
    return tuple(dict.fromkeys(found))
