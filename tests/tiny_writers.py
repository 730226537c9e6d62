"""Tiny random encoder-decoders that write, of the families that there are, with a tokenizer each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    M2M100Config,
    MarianConfig,
    MBartConfig,
    PegasusConfig,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
)

from tiny import END, HIDDEN, MAX_LENGTH, PAD, VOCABULARY, tiny_tokenizer
from tunesmith.models.quiet import quiet

_IDS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": 3}
_BART = {
    **_IDS,
    "d_model": HIDDEN,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": MAX_LENGTH,
    "decoder_start_token_id": END,
}
_T5 = {**_IDS, "d_model": HIDDEN, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": PAD}

_CONFIGS: dict[str, tuple[Callable[..., PretrainedConfig], dict[str, Any]]] = {
    "bart": (BartConfig, {**_BART, "forced_eos_token_id": None}),
    "mbart": (MBartConfig, {**_BART, "decoder_start_token_id": END}),
    "marian": (MarianConfig, {**_BART, "decoder_start_token_id": PAD}),
    "m2m100": (M2M100Config, _BART),
    "pegasus": (PegasusConfig, {**_BART, "decoder_start_token_id": 0}),
    "t5": (T5Config, _T5),
}

FAMILIES: tuple[str, ...] = tuple(_CONFIGS)


def tiny_writer(family: str, dtype: torch.dtype = torch.float64, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Return a random model in ``eval`` mode whose norms and biases are no ones and zeros."""
    make, sizes = _CONFIGS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(make(**{**sizes, **settings}))
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def writer_folder(folder: Path, family: str = "bart", **settings: Any) -> Path:
    """Save a tiny float32 model with a tokenizer that ends rows in </s> into ``folder/family-writer``; return that."""
    folder = folder / f"{family}-writer"
    with quiet():
        tiny_writer(family, torch.float32, **settings).save_pretrained(folder)
        tiny_tokenizer("bpe").save_pretrained(folder)
    return folder
