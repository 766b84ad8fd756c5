"""The tensors of a runner: allocated once, inputs filled by `bind`, at fixed addresses in every inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from trtgate.errors import UsageError


def in_order(found: Mapping[str, torch.Tensor], names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """The outputs of a runtime in the workload's order; in the runtime's own where it renamed them."""
    return tuple(found[name] for name in (names if set(names) == set(found) else found))


class BoundInputs:
    """Static input buffers.

    Args:
        tensors: the buffers, in the module's order; theirs are the shapes, datatypes and device of the case.
        stream: where they are read; None on the CPU.
        what: the case's id, for messages.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], stream: torch.cuda.Stream | None, what: str) -> None:
        self.tensors = tuple(tensors)
        self._stream = stream
        self._what = what

    @classmethod
    def like(
        cls, examples: Sequence[torch.Tensor], device: torch.device, stream: torch.cuda.Stream | None, what: str
    ) -> BoundInputs:
        """Buffers on a device with the shapes, datatypes and values of examples."""
        bound = cls([torch.empty(t.shape, dtype=t.dtype, device=device) for t in examples], stream, what)
        bound.fill(examples)
        return bound

    def fill(self, inputs: Sequence[torch.Tensor]) -> None:
        """Copy inputs into the buffers, converting datatype and device; done when it returns.

        Raises:
            UsageError: another number of inputs, or another shape.
        """
        if len(inputs) != len(self.tensors):
            raise UsageError(
                f"{self._what} takes {len(self.tensors)} inputs, but {len(inputs)} were bound.",
                "Bind what the workload's inputs() returns.",
            )
        for index, (buffer, given) in enumerate(zip(self.tensors, inputs, strict=True)):
            if buffer.shape != given.shape:
                raise UsageError(
                    f"Input {index} of {self._what} has shape {tuple(given.shape)}, not {tuple(buffer.shape)}.",
                    "Bind inputs of the case's batch and sequence.",
                )
        if self._stream is None:
            self._copy(inputs)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            self._copy(inputs)
        self._stream.synchronize()

    def _copy(self, inputs: Sequence[torch.Tensor]) -> None:
        with torch.no_grad():
            for buffer, given in zip(self.tensors, inputs, strict=True):
                buffer.copy_(given)

    def close(self) -> None:
        """Give the buffers back."""
        self.tensors = ()
