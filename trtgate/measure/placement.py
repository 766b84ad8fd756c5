"""Where measured work runs: on the context's stream, without autograd, on inputs that are on its device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from trtgate.backends.base import BuildContext, Runner


@contextlib.contextmanager
def on_stream(context: BuildContext) -> Iterator[None]:
    """Make the context's stream current, where it has one, and switch autograd's bookkeeping off."""
    stream = torch.cuda.stream(context.stream) if context.stream is not None else contextlib.nullcontext()
    with stream, torch.inference_mode():
        yield


def place(inputs: Sequence[torch.Tensor], context: BuildContext) -> tuple[torch.Tensor, ...]:
    """Inputs on the context's device, as `Runner.bind` takes them."""
    return tuple(tensor.to(context.device) for tensor in inputs)


def infer(runner: Runner, context: BuildContext) -> None:
    """One inference and the wait for its end. To be called inside `on_stream`."""
    runner.enqueue()
    if context.stream is not None:
        context.stream.synchronize()
