"""Which TensorRT is here, and one way to talk to it: flavour, module, logger, datatypes, deserialising.

TensorRT 10.15 and newer, 11.x and TensorRT-RTX share the calls that this project uses. Which of them is installed,
`trt_installed` tells without importing any.
"""

from __future__ import annotations

import functools
import importlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from trtgate.backends.base import YES, Answer, no
from trtgate.backends.cuda_device import out_of_memory
from trtgate.backends.trt_installed import CHOICE_VARIABLE as CHOICE_VARIABLE
from trtgate.backends.trt_installed import Flavour as Flavour
from trtgate.backends.trt_installed import find
from trtgate.backends.trt_installed import installed as installed
from trtgate.backends.trt_installed import installed_answer as installed_answer
from trtgate.backends.trt_installed import versions as versions
from trtgate.errors import BackendAbsentError, OutOfDeviceMemoryError, PlanError

REBUILD: Final = "Delete the cache folder's plans and build again."


def answer() -> Answer:
    """Whether TensorRT is installed and its libraries load, or why not. Never raises."""
    installed_here = installed_answer()
    found = find() if installed_here else installed_here
    if isinstance(found, Answer):
        return found
    try:
        module = importlib.import_module(found.flavour)
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        return no(f"{found.flavour} {found.version} is installed, but cannot be imported: {reason}.")
    imported = str(module.__version__)
    if not found.version.startswith(imported):  # a distribution may add a suffix, such as .post1
        return no(
            f"{found.flavour} {found.version} is installed, but {imported} is imported from {module.__file__}; "
            "remove one of the two from the module path."
        )
    return YES


def broken(*, cuda: bool) -> str:
    """Why a TensorRT that is installed or chosen cannot be used; empty where it can, or is not here at all.

    Args:
        cuda: whether a GPU is to run it. Without one some of its libraries refuse to load, as they should.
    """
    if not (installed() or os.environ.get(CHOICE_VARIABLE)):
        return ""
    found = answer() if cuda else installed_answer()
    return "" if found else found.reason


def load() -> Any:
    """The module of the flavour in use.

    Raises:
        BackendAbsentError: there is none, there are two, or it cannot be imported.
    """
    found = answer()
    if not found:
        raise BackendAbsentError(f"TensorRT cannot be used: {found.reason}", "Run 'trtgate doctor' for details.")
    flavour, _ = versions()
    return importlib.import_module(str(flavour))


class Messages:
    """What TensorRT logged since `collect` began.

    Attributes:
        problems: warnings and errors, in order, each with its severity.
        errors: errors alone, without severity.
        verbose: every line of any severity, where somebody asked for them; else None.
    """

    def __init__(self, verbose: list[str] | None = None) -> None:
        self.problems: list[str] = []
        self.errors: list[str] = []
        self.verbose = verbose

    @property
    def summary(self) -> str:
        """The errors in one line; the last warnings where there is no error."""
        return "; ".join(self.errors[-4:]) or "; ".join(self.problems[-2:]) or "it logged nothing"

    @property
    def out_of_memory(self) -> bool:
        """Whether an error says that device memory ran out."""
        return any("out of memory" in text.lower() or "outofmemory" in text.lower() for text in self.errors)


@functools.cache
def logger() -> Any:
    """The process's one TensorRT logger: TensorRT keeps the first that it is given and warns about any other."""
    trt = load()

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages = Messages()

        def log(self, severity: Any, message: str) -> None:
            kept = self.messages
            if kept.verbose is not None:
                kept.verbose.append(message)
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                kept.errors.append(message)
                kept.problems.append(f"error: {message}")
            elif severity == trt.ILogger.WARNING:
                kept.problems.append(f"warning: {message}")

    return Logger()


@contextmanager
def collect(verbose: list[str] | None = None) -> Iterator[Messages]:
    """Collect what TensorRT logs in the body.

    Args:
        verbose: receives every line; without it only warnings and errors are kept.
    """
    one = logger()
    before, one.messages = one.messages, Messages(verbose)
    try:
        yield one.messages
    finally:
        one.messages = before


def torch_dtype(dtype: Any) -> torch.dtype:
    """The torch datatype of a TensorRT tensor.

    Raises:
        PlanError: TensorRT has a datatype there that torch tensors do not have (int4, fp4).
    """
    trt = load()
    known = {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.BF16: torch.bfloat16,
        trt.DataType.FP8: torch.float8_e4m3fn,
        trt.DataType.INT64: torch.int64,
        trt.DataType.INT32: torch.int32,
        trt.DataType.INT8: torch.int8,
        trt.DataType.UINT8: torch.uint8,
        trt.DataType.BOOL: torch.bool,
    }
    if dtype not in known:
        raise PlanError(
            f"An engine's input or output has the datatype {dtype}, which no torch tensor has.",
            "Add a cast before the output or after the input.",
        )
    return known[dtype]


def deserialise(runtime: Any, plan: bytes | mmap.mmap, what: str, *, fix: str = REBUILD) -> Any:
    """An engine from its plan.

    Args:
        runtime: a TensorRT runtime, which must outlive the engine.
        plan: the serialised engine, which TensorRT copies.
        what: the case's id or the plan's name, for messages.
        fix: what to do about a plan that TensorRT refuses.

    Raises:
        OutOfDeviceMemoryError: its weights do not fit.
        PlanError: truncated, foreign, or built by another version.
    """
    with collect() as messages:
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise failure(what, "its plan could not be deserialised", messages, fix=fix)
    return engine


def failure(what: str, problem: str, messages: Messages, *, fix: str = REBUILD) -> PlanError | OutOfDeviceMemoryError:
    """The error for a call of TensorRT's runtime that returned nothing."""
    if messages.out_of_memory:
        return out_of_memory(what, messages.summary)
    return PlanError(f"{what}: {problem}: {messages.summary}.", fix)
