"""A BERT-base-shaped text encoder with seeded random weights and the sequence length as a dimension."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional

from trtgate import artefacts
from trtgate.errors import UsageError
from trtgate.workloads import weights
from trtgate.workloads.base import DigestedWorkload
from trtgate.workloads.registry import TRANSFORMER_TOKENS

_SEED = 768
# Marks of BERT's uncased vocabulary: [CLS], [SEP], and the first whole word.
_CLS, _SEP, _FIRST_WORD = 101, 102, 999
# Attention that is nearly uniform averages the tokens away, and branches as loud as their trunk leave only what all
# sentences share: with both at 1, the outputs of two sentences differ by a tenth of their norm.
_SHARPNESS = 2.0
_BRANCH_GAIN = 0.5
# Raise it when the network or its weights change.
_RECIPE = 1


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape of an encoder. The defaults are BERT-base's (Devlin et al., NAACL 2019)."""

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    intermediate: int = 3072
    vocabulary: int = 30_522
    positions: int = 512


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.heads = dimensions.heads
        self.query = nn.Linear(dimensions.hidden, dimensions.hidden)
        self.key = nn.Linear(dimensions.hidden, dimensions.hidden)
        self.value = nn.Linear(dimensions.hidden, dimensions.hidden)
        self.output = nn.Linear(dimensions.hidden, dimensions.hidden)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Shape (batch, sequence, hidden) in and out."""
        query, key, value = (self._split(layer(states)) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        output: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        batch, sequence, hidden = states.shape
        return states.view(batch, sequence, self.heads, hidden // self.heads).transpose(1, 2)


class Layer(nn.Module):
    """Attention and a two-layer perceptron with GELU, each added to its input and normalised afterwards."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.attention = Attention(dimensions)
        self.attention_norm = nn.LayerNorm(dimensions.hidden, eps=1e-12)
        self.intermediate = nn.Linear(dimensions.hidden, dimensions.intermediate)
        self.output = nn.Linear(dimensions.intermediate, dimensions.hidden)
        self.output_norm = nn.LayerNorm(dimensions.hidden, eps=1e-12)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Shape (batch, sequence, hidden) in and out."""
        states = self.attention_norm(states + self.attention(states))
        outcome: torch.Tensor = self.output_norm(states + self.output(functional.gelu(self.intermediate(states))))
        return outcome


class Encoder(nn.Module):
    """Token and position embeddings, encoder layers, and a pooler over the first token."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.token = nn.Embedding(dimensions.vocabulary, dimensions.hidden)
        self.position = nn.Embedding(dimensions.positions, dimensions.hidden)
        self.norm = nn.LayerNorm(dimensions.hidden, eps=1e-12)
        self.layers = nn.ModuleList(Layer(dimensions) for _ in range(dimensions.layers))
        self.pooler = nn.Linear(dimensions.hidden, dimensions.hidden)

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode token ids.

        Args:
            input_ids: int64 of shape (batch, sequence).

        Returns:
            Hidden states of shape (batch, sequence, hidden), and the pooled state of shape (batch, hidden).
        """
        states = self.norm(self.token(input_ids) + self.position.weight[: input_ids.shape[1]])
        for layer in self.layers:
            states = layer(states)
        return states, torch.tanh(self.pooler(states[:, 0]))


class Transformer(DigestedWorkload):
    """`Encoder` of BERT-base's shape on random sentences.

    Its weights need no data to behave: LayerNorm after every branch keeps activations at order one.

    Args:
        dimensions: of the encoder; the registered workload has BERT-base's.
        name: as it stands in case ids.

    Raises:
        UsageError: the heads do not divide the hidden size.
    """

    input_names = ("input_ids",)
    output_names = ("last_hidden_state", "pooled")
    has_sequence = True

    def __init__(self, dimensions: Dimensions | None = None, name: str = "transformer") -> None:
        self.name = name
        self._dimensions = dimensions or Dimensions()
        self.default_sequence = min(TRANSFORMER_TOKENS, self._dimensions.positions)
        if self._dimensions.hidden % self._dimensions.heads:
            raise UsageError(
                f"{self._dimensions.heads} heads do not divide the hidden size {self._dimensions.hidden}.",
                "Choose dimensions that divide.",
            )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights and of the recipe of the network."""
        digest = weights.digest(self.module())
        return artefacts.key(workload=self.name, recipe=_RECIPE, dimensions=asdict(self._dimensions), weights=digest)

    @torch.inference_mode(False)
    def module(self) -> nn.Module:
        """A new float32 encoder on the CPU, in eval mode, without gradients; equal weights at every call."""
        return copy.deepcopy(self._module)

    @cached_property
    @torch.no_grad()
    def _module(self) -> Encoder:
        """Made once, because copying it is several times faster."""
        with torch.device("meta"):  # torch's own random weights would take seconds and be overwritten
            module = Encoder(self._dimensions)
        module.to_empty(device="cpu")
        weights.fill(module, _SEED)
        for layer in module.layers:
            assert isinstance(layer, Layer)
            layer.attention.query.weight.mul_(_SHARPNESS)
            for last in (layer.attention.output, layer.output):
                last.weight.mul_(_BRANCH_GAIN)
        weights.frozen(module)
        return module

    def inputs(self, batch: int, sequence: int | None, seed: int) -> tuple[torch.Tensor, ...]:
        """Token ids, int64 of shape (batch, sequence): [CLS], random words, [SEP].

        Raises:
            UsageError: more tokens than the encoder has positions, or a size below 1.
        """
        length = self.checked_sequence(batch, sequence)
        assert length is not None
        if length > self._dimensions.positions:
            raise UsageError(
                f"The sequence length of '{self.name}' is {length}.",
                f"Use at most {self._dimensions.positions} tokens.",
            )
        ids = weights.generator("sentence", seed).integers(_FIRST_WORD, self._dimensions.vocabulary, (batch, length))
        ids[:, -1], ids[:, 0] = _SEP, _CLS
        return (torch.from_numpy(ids),)
