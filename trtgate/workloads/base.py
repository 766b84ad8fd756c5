"""The contract of a workload: a named model with inputs that make a comparison of its outputs meaningful."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from trtgate.errors import UsageError

if TYPE_CHECKING:
    import torch


class Workload(ABC):
    """A model and its data.

    Attributes:
        name: as it stands in case ids.
        input_names: one name an input, in the order of the module's positional arguments.
        output_names: one name an output.
        has_sequence: whether inputs have a token dimension.
        default_sequence: tokens an input where the case does not say; None without the dimension.
        fingerprint: changes whenever weights or architecture change; part of every cache's key.
        model_key: what caches know the model by: the fingerprint and what can be seen of the module itself.
    """

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    has_sequence: bool = False
    default_sequence: int | None = None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of what determines the module: name, seed, weights' origin, library version."""

    @property
    def model_key(self) -> str:
        """The fingerprint, and a digest of the module's structure, weights and source files.

        A fingerprint that was not changed with the model would otherwise find the exports, engines and references of
        the old one, which agree with each other.
        """
        return f"{self.fingerprint} {self._module_digest}".rstrip()

    @cached_property
    def _module_digest(self) -> str:
        """Empty where the module cannot be made: what is built from it fails, with its own words."""
        from trtgate.workloads.module_digest import digest_of  # which needs torch

        try:
            module = self.module()
        except Exception:  # noqa: BLE001 - the project's own code, which may raise anything
            return ""
        return digest_of(module)

    @abstractmethod
    def module(self) -> torch.nn.Module:
        """A new float32 module on the CPU, in eval mode, without gradients; equal weights at every call.

        Its tensors are ordinary ones even when the caller is in inference mode.
        """

    @abstractmethod
    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        """One batch of realistic inputs on the CPU: float32 or integer tensors, a function of the arguments alone.

        Args:
            batch: size of the first dimension.
            sequence: tokens an input, or None.
            seed: which of the seeded batches.
        """

    def checked_sequence(self, batch: int, sequence: int | None) -> int | None:
        """Tokens an input for this request: the given length, else the default; None without the dimension.

        Raises:
            UsageError: a batch below 1, a sequence below 1, or a sequence for a workload that has none.
        """
        if batch < 1:
            raise UsageError(f"The batch of '{self.name}' is {batch}.", "Use a whole number of at least 1.")
        if sequence is None:
            return self.default_sequence
        if not self.has_sequence:
            raise UsageError(
                f"The workload '{self.name}' has no sequence dimension, but {sequence} tokens were asked for.",
                "Leave the sequence length out.",
            )
        if sequence < 1:
            raise UsageError(f"The sequence length of '{self.name}' is {sequence}.", "Use at least 1 token.")
        return sequence

    def calibration_inputs(self, count: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        """Data to calibrate quantisation with: ``count`` examples that `inputs` never returns for parity's seeds."""
        return self.inputs(count, sequence, seed=1_000_003 + seed)

    def evaluation(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Held-out inputs and labels for the task metric (top-1), or None where the workload has no task."""
        return None


class DigestedWorkload(Workload):
    """A workload whose fingerprint has a digest of the weights and the recipe in it: caches need to know no more."""

    @property
    def model_key(self) -> str:
        """The fingerprint."""
        return self.fingerprint
