"""Who else is on a GPU: this process told apart from the others, whatever NVML calls it.

What cannot be told counts as another process: a row that names a neighbour too many is looked at, and one that names
none is believed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from trtgate.measure import nvml

_log = logging.getLogger(__name__)
_cuda: Any = torch.cuda  # partly without type annotations
_STATUS: Final = Path("/proc/self/status")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_OUTERMOST: Final = 0xEFFFFFFC  # Linux's PROC_PID_INIT_INO, the same on every machine
# What PyTorch's allocator asks the device for in one piece, however it is configured.
_PIECE_BYTES: Final = 20 * 2**20

Probe = Callable[[], AbstractContextManager[int]]
"""Holds some of the GPU's memory while it is open, and says how much."""


@dataclass(frozen=True, slots=True)
class OwnMemory:
    """Device memory of this process.

    Attributes:
        held_bytes: as NVML counts it, None where it cannot be had.
        reason: why it cannot, in a sentence; empty where it can.
    """

    held_bytes: int | None
    reason: str = ""


class Neighbours:
    """The processes on one GPU, without this one.

    Args:
        gpu: NVML's view of it.
        probe: holds memory on it, so that NVML shows who does.
        ids: this process's own, in every namespace that it knows of.
        contained: whether the machine may know this process by an id that it does not know itself.
    """

    def __init__(
        self, gpu: nvml.Nvml, probe: Probe, ids: Collection[int] | None = None, *, contained: bool | None = None
    ) -> None:
        self._gpu = gpu
        self._probe = probe
        self._ids = frozenset(own_ids() if ids is None else ids)
        self._contained = is_contained() if contained is None else contained
        self._knows_its_name = False  # whether it can have no other one among those that computed

    def identify(self) -> None:
        """Find out what NVML calls this process where it is by none of its own ids.

        Takes and gives back memory, so it stands before anything is measured. In a container older drivers list the
        ids of the host, of which a process does not know its own; who holds the probe as long as this process does is
        this process.
        """
        before = self._gpu.processes()
        if before is None or before.keys() & self._ids:
            self._knows_its_name = before is not None and not self._contained
            return
        try:
            with self._probe() as size:
                during = self._gpu.processes() or {}
        except RuntimeError as error:  # no memory left, or a lost device: whoever computes on it will say so
            _log.debug("The process could not be looked for on the GPU: %s", error)
            return
        after = self._gpu.processes() or {}
        if during.keys() & self._ids:  # its first memory on this GPU
            self._knows_its_name = not self._contained
            return
        rose = [pid for pid in during if _rise(before, during, pid) >= size == _rise(after, during, pid)]
        if len(rose) == 1:
            self._ids = frozenset(rose)
            self._knows_its_name = True  # the host's, of which there is one
        elif len(during) == 1 and None in during.values():
            self._ids |= during.keys()  # alone there, and no figures to tell: it is the one that holds the probe
        elif during:
            _log.warning(
                "NVML lists %s on the GPU, and which of them is this process cannot be told: all count as neighbours.",
                ", ".join(map(str, sorted(during))),
            )

    @property
    def ids(self) -> frozenset[int]:
        """What NVML may call this process, as far as is known."""
        return self._ids

    @property
    def can_be_seen(self) -> bool:
        """Whether NVML lists processes at all."""
        return self._gpu.processes() is not None

    def present(self) -> frozenset[int]:
        """Ids of the others that are on the GPU now."""
        return frozenset(self._gpu.processes() or ()) - self._ids

    def computed_since(self, moment_us: int) -> tuple[frozenset[int], int]:
        """Ids of those that computed after a moment under another id than this process's, also if they have gone since.

        Returns:
            The ids, and the time of the newest sample, from which the next question goes on.
        """
        seen, newest_us = self._gpu.computed_since(moment_us)
        self._knows_its_name |= bool(seen & self._ids)
        return seen - self._ids, newest_us

    def are_others(self, computed: Collection[int]) -> bool:
        """Whether it is settled that ids of `computed_since`, all of one measurement, are not this process alone.

        In a container the driver may list who is there by one kind of ids and who computed by another. A single id may
        then be this process under another name, until its own was once seen among these; two cannot both be.
        """
        return self._knows_its_name or len(computed) > 1

    def own_memory(self, reserved_bytes: int) -> OwnMemory:
        """Device memory that this process holds.

        Args:
            reserved_bytes: what PyTorch alone holds of it, as a proof: NVML's figure is not less, or not this one's.
        """
        listed = self._gpu.processes()
        if listed is None:
            return OwnMemory(None, "NVML lists no processes here.")
        own = sorted(listed.keys() & self._ids)
        if len(own) != 1:
            return OwnMemory(None, "NVML does not list this process under an id that it knows.")
        held = listed[own[0]]
        if not held:
            return OwnMemory(None, "NVML does not tell what a process holds here.")
        if held < reserved_bytes:
            return OwnMemory(
                None, f"NVML counts {held:,} bytes for this process, and PyTorch alone {reserved_bytes:,}."
            )
        return OwnMemory(held)


def own_ids() -> frozenset[int]:
    """Ids of this process: in its own namespace, and in outer ones as far as /proc shows them."""
    ids = {os.getpid()}
    with contextlib.suppress(OSError):
        found = re.search(r"^NSpid:(.*)$", _STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        ids.update(map(int, found[1].split()) if found else ())
    return frozenset(ids)


def is_contained() -> bool:
    """Whether this process is in a namespace of process ids that is not the machine's own, or cannot tell."""
    try:
        return _NAMESPACE.stat().st_ino != _OUTERMOST
    except OSError:
        return True


@cache
def neighbours(index: int) -> Neighbours | None:
    """The neighbours on the GPU that torch calls ``index``, told apart once; None where NVML does not know it."""
    gpu = nvml.gpu(index)
    if gpu is None:
        return None
    found = Neighbours(gpu, lambda: _held_on(index))
    found.identify()
    return found


@contextlib.contextmanager
def _held_on(index: int) -> Iterator[int]:
    # Not the same for all: the workers of a gate look for themselves at the same time.
    size = _PIECE_BYTES * (3 + os.getpid() % 8)
    block = torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", index))
    try:
        yield size
    finally:
        del block
        _cuda.empty_cache()


def _rise(low: Mapping[int, int | None], high: Mapping[int, int | None], pid: int) -> int:
    """How much more a process held at one time than at another, at which it may not have been there."""
    less, more = low.get(pid, 0), high[pid]
    return 0 if less is None or more is None else more - less
