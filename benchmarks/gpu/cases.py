"""What is measured: models, methods and rows, the same for all tools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import flops

WARMUP_STEPS = 4
"""First steps, left out of the rate."""

LEARNING_RATE = 1e-5
SEED = 0


@dataclass(frozen=True)
class Shape:
    """A model's sizes."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    key_heads: int
    vocabulary: int
    is_encoder: bool = False

    @property
    def num_weights(self) -> int:
        """Weights of matrix multiplications, embeddings and head left out."""
        head_size = self.width // self.heads
        attention = self.width * head_size * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + (2 if self.is_encoder else 3) * self.width * self.feed_forward)


@dataclass(frozen=True)
class Case:
    """A model, a method and rows."""

    name: str
    shape: Shape
    method: str
    """full or lora (rank 16 on every linear layer)."""
    mean_length: int
    """Tokens of a row."""
    longest: int
    rows_per_step: int
    micro_batch_tokens: int
    variants: tuple[str, ...] = ("tunesmith", "tunesmith-liger", "tunesmith-compiled", "trl", "trl-liger", "unsloth")
    recomputes: bool = False
    """Activation checkpointing for peers, where memory does not suffice without; tunesmith decides itself."""

    def num_rows(self, num_steps: int) -> int:
        """Return the rows of the warm-up and ``num_steps`` measured steps."""
        return self.rows_per_step * (WARMUP_STEPS + num_steps)

    def small(self) -> Case:
        """Return the case at a size that any machine computes in no time."""
        shape = Shape(2, 64, 128, 4, 4 if self.shape.is_encoder else 2, 300, self.shape.is_encoder)
        return replace(self, shape=shape, mean_length=12, longest=40, rows_per_step=4, micro_batch_tokens=64)


LLAMA_1B = Shape(16, 2048, 8192, 32, 8, 128_256)
LLAMA_8B = Shape(32, 4096, 14_336, 32, 8, 128_256)
MINILM = Shape(6, 384, 1536, 12, 12, 30_522, is_encoder=True)

CASES = (
    Case("1b-lora", LLAMA_1B, "lora", 400, 2048, 32, 8192),
    Case("1b-full", LLAMA_1B, "full", 400, 2048, 32, 8192),
    Case("minilm-full", MINILM, "full", 40, 256, 256, 16_384, ("tunesmith", "tunesmith-graphs", "trainer")),
    Case("8b-lora", LLAMA_8B, "lora", 400, 2048, 16, 4096),
)
"""In the order of their worth."""


def make_rows(case: Case, num_rows: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Return rows of random tokens, their lengths log-normal about the mean, as those of instructions are."""
    generator = np.random.default_rng(SEED)
    spread = 0.6
    lengths = generator.lognormal(math.log(case.mean_length) - spread**2 / 2, spread, num_rows)
    return [generator.integers(5, case.shape.vocabulary, int(one)) for one in lengths.clip(8, case.longest).round()]


def flops_per_token(case: Case, rows: Sequence[Any], num_trained: int) -> float:
    """Return the operations of a step per real token; half of the tokens are learned."""
    shape, lengths = case.shape, np.array([len(row) for row in rows], dtype=np.float64)
    sizes = flops.Shape(
        num_weights=shape.num_weights,
        num_layers=shape.layers,
        width=shape.width,
        attended_length=float((lengths**2).sum() / lengths.sum()),
        vocabulary=0 if shape.is_encoder else shape.vocabulary,
        labelled_share=0.5,
        causal=not shape.is_encoder,
    )
    return flops.training(sizes, case.method, num_trained)


def build_model(case: Case, device: Any, dtype: Any) -> Any:
    """Return the model with random weights, made on the device."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig, LlamaConfig

    shape = case.shape
    sizes: dict[str, Any] = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.feed_forward,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": max(case.longest, 512),
        "pad_token_id": 0,
    }
    torch.manual_seed(SEED)
    with torch.device(device):
        if shape.is_encoder:
            off: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 2}
            scored: Any = AutoModelForSequenceClassification
            return scored.from_config(BertConfig(**sizes, **off), dtype=dtype)
        config = LlamaConfig(**sizes, num_key_value_heads=shape.key_heads)
        causal: Any = AutoModelForCausalLM
        return causal.from_config(config, dtype=dtype)
