"""Small models whose layers get blocks, and rows for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.scorer import Reads
from tunesmith.models.quiet import quiet

VOCABULARY = 90
LENGTHS = (3, 8, 8, 17, 33, 40, 70)
STACK: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def encoder(dropout: float, **settings: Any) -> dict[str, Any]:
    noise = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return {**STACK, "num_attention_heads": 2, **noise, **settings}


def decoder(dropout: float, **settings: Any) -> dict[str, Any]:
    return {
        **STACK,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "attention_dropout": dropout,
        **settings,
    }


MODELS: dict[str, tuple[Callable[[float], nn.Module], Reads]] = {
    "bert": (lambda p: BertForSequenceClassification(BertConfig(**encoder(p))), "row"),
    "bert with tanh": (lambda p: BertForSequenceClassification(BertConfig(**encoder(p, hidden_act="gelu_new"))), "row"),
    "bert on tokens": (lambda p: BertForTokenClassification(BertConfig(**encoder(p))), "token"),
    "roberta": (lambda p: RobertaForSequenceClassification(RobertaConfig(**encoder(p))), "row"),
    "llama": (lambda p: LlamaForCausalLM(LlamaConfig(**decoder(p))), "token"),
    "llama on rows": (lambda p: LlamaForSequenceClassification(LlamaConfig(**decoder(p))), "row"),
    "qwen2": (lambda p: Qwen2ForCausalLM(Qwen2Config(**decoder(p))), "token"),
    "mistral's window": (lambda p: MistralForCausalLM(MistralConfig(**decoder(p, sliding_window=9))), "token"),
}


def rows_of(reads: Reads) -> Encoded:
    generator = np.random.default_rng(0)
    tokens = [generator.integers(5, VOCABULARY, length) for length in LENGTHS]
    positions = Ragged.from_rows([np.arange(1, length, 2) for length in LENGTHS]) if reads == "token" else None
    return Encoded(inputs={"input_ids": Ragged.from_rows(tokens)}, targets={}, reads=positions)


def build(name: str, dropout: float, *, lora: bool) -> tuple[nn.Module, Reads]:
    torch.manual_seed(0)
    make, reads = MODELS[name]
    model = make(dropout)
    if lora:
        with quiet():
            model = get_peft_model(
                model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=dropout)
            )
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                nn.init.normal_(parameter, std=0.05)
    return model.train(bool(dropout)), reads
