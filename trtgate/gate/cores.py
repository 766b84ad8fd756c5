"""Sharing a CPU among worker processes that build and prove at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def share_of_the_cores(processes: int) -> Iterator[None]:
    """Fewer threads on a CPU that others use too: threads that wait for a core spin, and all take 100 times longer.

    What is timed on the CPU keeps its threads, and what is timed on a GPU needs none.

    Args:
        processes: how many use this machine's CPU, this one among them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)
