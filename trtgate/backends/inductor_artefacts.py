"""Inductor's artefacts on disk: where it keeps them, and how a damaged one is got rid of.

Inductor loads what it finds there without a digest to check it by, so that a library that was cut off fails every run.
Its errors do not say reliably which file is to blame, so the whole folder is set aside, and only if the same model
compiles without it: a model that cannot be compiled at all must not cost the others their artefacts.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from trtgate.backends.cuda_device import is_lost, is_out_of_memory
from trtgate.backends.dynamo_errors import cause_of, reason_of
from trtgate.errors import StorageError, TrtgateWarning

_CACHE_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"
_Made = TypeVar("_Made")


class DamagedArtefactsWarning(TrtgateWarning):
    """A model compiled only after Inductor's folder had been set aside."""


@contextmanager
def artefacts_in(folder: Path) -> Iterator[None]:
    """Let Inductor keep its artefacts in a folder; it reads the variable whenever it looks for one."""
    before = os.environ.get(_CACHE_VARIABLE)
    os.environ[_CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_CACHE_VARIABLE, None)
        else:
            os.environ[_CACHE_VARIABLE] = before


def without_damaged(folder: Path, make: Callable[[], _Made]) -> _Made:
    """What ``make`` returns; where it fails with artefacts at hand, what it returns without them.

    Args:
        folder: of the artefacts. The fresh one has the same name: Triton's variable and paths in the generated code go
            on to point to it. Models that were compiled before hold what they need of the old one in memory.
        make: compiles and calls a model.

    Raises:
        StorageError: the folder cannot be set aside.
        Exception: of ``make``, of its second go if there was one.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return make()
    try:
        return make()
    except Exception as error:
        if not _may_be_damage(error):
            raise
        reason = reason_of(error)
    # Out of the handler, so that nothing holds the tensors of the first go.
    aside = folder.with_name(f"{folder.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    _rename(folder, aside, reason)
    try:
        _forget_files()
        made = make()
    except BaseException:
        if folder.exists():
            shutil.rmtree(folder)
        _rename(aside, folder, reason)
        _forget_files()
        raise
    warnings.warn(
        f"torch.compile failed with the artefacts in {folder} ({reason}) and not without them, "
        f"so they are set aside in {aside}, which may be removed.",
        DamagedArtefactsWarning,
        stacklevel=2,
    )
    return made


def _may_be_damage(error: Exception) -> bool:
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

    if isinstance(error, TorchDynamoException) and not isinstance(error, BackendCompilerFailed):
        return False  # Dynamo reads no artefacts
    return not (is_out_of_memory(error) or is_out_of_memory(cause_of(error)) or is_lost())


def _forget_files() -> None:
    """Drop what Inductor noted of files in this process: a library that it noted as compiled it would not make again.

    Compiled models hold their own code; only a lookup finds nothing any more.
    """
    from torch._inductor.utils import clear_caches

    clear_caches()


def _rename(folder: Path, name: Path, reason: str) -> None:
    try:
        folder.rename(name)
    except OSError as error:
        raise StorageError(
            f"torch.compile failed with the artefacts in {folder} ({reason}), "
            f"and they cannot be renamed to {name} ({error.strerror}).",
            "Make the folder writable, or remove it.",
        ) from error
