"""Which layout a model can take: the flat one, wherever it is proven equal to the padded one.

Whether a model can be run flat is not taken from a list: ``choose_layout`` compares the flat
layout with the model as ``transformers`` wrote it on a few rows of random tokens, and says
why not when they differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.attention import FLAT_ATTENTION, register
from tunesmith.engine.batch import EXACT, FEW, Batch, Collator, LayoutName, Shapes
from tunesmith.engine.blocks.install import (
    has_adapters_installed,
    install,
    install_adapters,
    is_installed,
    uninstall,
)
from tunesmith.engine.precision import Precision
from tunesmith.engine.scorer import Reads, Scorer
from tunesmith.models.structure import base_model, inner

PROBE_LENGTHS = (4, 7, 7, 9, 12, 30)
"""Equal and unequal lengths, so that every way of grouping is probed."""

PROBE_TOLERANCE = 1e-3
"""Largest difference of scores, relative to their size, for two layouts to count as equal in float32."""


def position_offset(model: nn.Module) -> int:
    """Return the position id of a sequence's first token: ``padding_idx + 1`` for RoBERTa and its kin, else 0."""
    embeddings = getattr(base_model(inner(model)), "embeddings", None)
    counts_from_padding = hasattr(embeddings, "create_position_ids_from_input_ids")
    padding_idx = getattr(embeddings, "padding_idx", None)
    return int(padding_idx) + 1 if counts_from_padding and padding_idx is not None else 0


def choose_layout(
    model: nn.Module, reads: Reads, vocab_size: int, wanted: str, *, fused: bool = True
) -> tuple[LayoutName, str]:
    """Return the layout to use and why, trying the flat one where ``wanted`` is ``auto`` or ``flat``.

    The model is compared with itself on a few rows of random tokens, without dropout. On
    return it is set to the attention function of the layout chosen. With ``fused``, blocks and keyed noise
    stand in for its layers and dropout where that too is equal (``engine.blocks``; they are made for the CPU);
    without, one operation stands in for each adapted layer.
    """
    if wanted == "padded":
        return "padded", "as configured"
    for stand_in in (install if fused else install_adapters, uninstall):
        stand_in(model)
        difference = _try(lambda: _layout_difference(model, reads, vocab_size))
        if isinstance(difference, float) and difference <= PROBE_TOLERANCE:
            _set_attention(model, FLAT_ATTENTION)
            return "flat", f"proven equal to the padded layout on this model (largest difference {difference:.0e})"
    reason = (
        difference
        if isinstance(difference, str)
        else f"its scores would differ from those of the padded layout by {difference:.1g}"
    )
    return "padded", reason


def use_layout_of(like: nn.Module, layout: LayoutName, model: nn.Module) -> None:
    """Set ``model`` to the layout that was chosen for an equal one, with the stand-ins that that has."""
    if layout == "flat":
        if is_installed(like):
            install(model)
        elif has_adapters_installed(like):
            install_adapters(model)
        _set_attention(model, FLAT_ATTENTION)


def collator_for(
    model: nn.Module, layout: LayoutName, pad_token_id: int, device: torch.device, shapes: Shapes = EXACT
) -> Collator:
    """Return the collator that lays out batches for ``model``."""
    return Collator(layout, pad_token_id, position_offset(model) if layout == "flat" else 0, device, shapes)


def shapes_for(precision: Precision, device: torch.device) -> Shapes:
    """Return how shapes are rounded: bf16 on the CPU compiles a kernel for each."""
    return FEW if precision == "bf16" and device.type == "cpu" else EXACT


def _layout_difference(model: nn.Module, reads: Reads, vocab_size: int) -> float:
    """Return the largest difference between the flat scores and the model's own, relative to their size."""
    config: Any = inner(model).config
    before = copy.copy(config._attn_implementation)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    pad_token_id = getattr(config, "pad_token_id", None) or 0
    data = _probe_rows(vocab_size, pad_token_id, reads)
    rows = np.arange(len(data))
    try:
        with torch.no_grad():
            padded = _as_written(model, collator_for(model, "padded", pad_token_id, device)(data, rows))
            _set_attention(model, FLAT_ATTENTION)
            batch = collator_for(model, "flat", pad_token_id, device, FEW)(data, rows)
            scorer = Scorer(model, "flat", reads, FEW)
            with scorer.surrounding(batch):
                flat = scorer(batch).double()
    finally:
        _set_attention(model, before)
        model.train(was_training)
    return float((padded - flat).abs().max() / padded.abs().max().clamp(min=1e-6))


def _as_written(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the scores of a padded batch from the model's whole ``forward``."""
    scores: torch.Tensor = model(**batch.inputs).logits.double()
    return scores if batch.read_tokens is None else scores[batch.inputs["attention_mask"].bool()][batch.read_tokens]


def _probe_rows(vocab_size: int, pad_token_id: int, reads: Reads) -> Encoded:
    generator = np.random.default_rng(0)
    tokens = [generator.integers(1, vocab_size, length) for length in PROBE_LENGTHS]
    tokens = [np.where(row == pad_token_id, (pad_token_id + 1) % vocab_size, row) for row in tokens]
    positions = Ragged.from_rows([np.arange(0, length, 2) for length in PROBE_LENGTHS]) if reads == "token" else None
    return Encoded(inputs={"input_ids": Ragged.from_rows(tokens)}, targets={}, reads=positions)


def _set_attention(model: nn.Module, name: str) -> None:
    register()
    inner(model).set_attn_implementation(name)


def _try(compute: Callable[[], float]) -> float | str:
    """Return what ``compute`` gives or, since a model may refuse in any way it likes, why it failed."""
    try:
        return compute()
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        return f"the flat layout does not fit this model ({type(error).__name__}: {first_line})"
