"""Floating point operations of a step, from the model's shape alone, and their share of what the machine can do.

Symbols: N weights of matrix multiplications, embeddings and head left out; L layers of width d; s attended
length (of a token, averaged over tokens: sum of squared row lengths over the sum of lengths); V vocabulary and r
share of tokens whose next token is learned; P weights of adapters. A multiplication with an addition counts as
two operations. What is recomputed and what padding costs never counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the operations per token."""

    num_weights: int
    """N."""
    num_layers: int
    """L."""
    width: int
    """d."""
    attended_length: float
    """s."""
    vocabulary: int = 0
    """V; 0 for models that score rows, whose head is a few rows of weights."""
    labelled_share: float = 0.0
    """r."""
    causal: bool = False
    """Whether a token attends to earlier ones only, which halves the attention."""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Shape:
        """Take the shape out of what ``benchmarks.prepare`` found."""
        return cls(**{name: facts[name] for name in cls.__slots__})

    @property
    def attention(self) -> float:
        """Scores and weighted sums of one token in the forward pass: ``4 L s d``, or half of it."""
        return 4 * self.num_layers * self.attended_length * self.width * (0.5 if self.causal else 1.0)

    @property
    def head(self) -> float:
        """Scores over the vocabulary per token in the forward pass: ``2 V d r``."""
        return 2 * self.vocabulary * self.width * self.labelled_share


def forward(shape: Shape) -> float:
    """Return ``2N + 4Lsd + 2Vdr`` per token (half of the attention's term for causal models)."""
    return 2 * shape.num_weights + shape.attention + shape.head


def full(shape: Shape) -> float:
    """Return ``6N + 12Lsd + 6Vdr`` per token: forward, and twice as much backward."""
    return 3 * forward(shape)


def lora(shape: Shape, num_adapter_weights: int) -> float:
    """Return ``4N + 12Lsd + 4Vdr + 6P`` per token: frozen weights have no gradient of their own."""
    return 4 * shape.num_weights + 3 * shape.attention + 2 * shape.head + 6 * num_adapter_weights


def training(shape: Shape, method: str, num_trained: int) -> float:
    """Return the operations per token of the ``method`` (full or lora)."""
    return full(shape) if method == "full" else lora(shape, num_trained)


def utilisation(tokens_per_second: float, per_token: float, gemm_rate: float) -> float:
    """Return the share of the machine's own matrix multiplication rate (operations per second) that is used."""
    return tokens_per_second * per_token / gemm_rate
