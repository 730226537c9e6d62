"""From a batch to the scores its loss reads, in either layout.

The padded layout calls the model as ``transformers`` wrote it. The flat layout calls its
base model on one row of real tokens and then the model's own head on what the task reads:
one token a row, or every token. Whether a model can be run flat is not taken from a list:
``choose_layout`` compares both layouts on a few rows of random tokens and says why not
when they differ.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.attention import FLAT_ATTENTION, borders_of, register
from tunesmith.engine.batch import EXACT, FEW, Batch, Collator, LayoutName, Shapes
from tunesmith.engine.precision import Precision
from tunesmith.models.structure import base_model, inner

Reads = Literal["row", "token"]

PROBE_LENGTHS = (4, 7, 7, 9, 12, 30)
"""Equal and unequal lengths, so that every way of grouping is probed."""

PROBE_TOLERANCE = 1e-3
"""Largest difference of scores, relative to their size, for two layouts to count as equal in float32."""


@dataclass(frozen=True)
class Scorer:
    """Calls a model on batches of one layout; the only thing the loop knows of a model."""

    model: nn.Module
    layout: LayoutName
    reads: Reads

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return ``scores_UK``: K scores for every row (or every token read), in batch order."""
        if self.layout == "flat":
            return self._flat(batch)
        scores: torch.Tensor = self.model(**batch.inputs).logits
        if self.reads == "row":
            return scores
        return scores[batch.inputs["attention_mask"].bool()][batch.read_tokens]

    def surrounding(self, batch: Batch) -> Any:
        """Return the context in which the forward and backward pass of ``batch`` run."""
        return borders_of(batch.borders) if self.layout == "flat" else nullcontext()

    @cached_property
    def _switches(self) -> dict[str, bool]:
        """Switch off what training has no use for: decoders would fill a cache."""
        takes_cache = "use_cache" in inspect.signature(base_model(inner(self.model)).forward).parameters
        return {"use_cache": False} if takes_cache else {}

    def _flat(self, batch: Batch) -> torch.Tensor:
        model: nn.Module = inner(self.model)
        base = base_model(model)
        hidden_TD: torch.Tensor = base(**batch.inputs, **self._switches).last_hidden_state[0]
        if self.reads == "row":
            return row_scores(model, hidden_TD, batch)
        return token_scores(model, hidden_TD[batch.read_tokens])


def row_scores(model: Any, hidden_TD: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Apply a sequence-classification head to the token that represents each row: [B, K].

    Covers the head designs of ``transformers``: a ``score`` on the last token (decoders);
    on the first token a pooler and classifier (BERT), a classification head module
    (RoBERTa), ``pre_classifier`` (DistilBERT) or ``head`` with mean or first pooling
    (ModernBERT). A wrong guess cannot pass unseen: see ``choose_layout``.
    """
    if hasattr(model, "score"):
        return _tensor(model.score(hidden_TD[batch.last_tokens]))
    first_BD = hidden_TD[batch.first_tokens]
    if hasattr(model, "pre_classifier"):
        return _tensor(model.classifier(model.dropout(torch.relu(model.pre_classifier(first_BD)))))
    if hasattr(model, "head") and hasattr(model, "drop"):
        pooled_BD = _mean_rows(hidden_TD, batch) if model.config.classifier_pooling == "mean" else first_BD
        return _tensor(model.classifier(model.drop(model.head(pooled_BD))))
    pooler = getattr(base_model(model), "pooler", None)
    if pooler is not None:
        return _tensor(model.classifier(model.dropout(pooler(first_BD[:, None]))))
    return _tensor(model.classifier(first_BD[:, None]))


def token_scores(model: Any, hidden_UD: torch.Tensor) -> torch.Tensor:
    """Apply a token head to the tokens read: [U, K]."""
    if hasattr(model, "head") and hasattr(model, "drop"):
        return _tensor(model.classifier(model.drop(model.head(hidden_UD))))
    dropout = getattr(model, "dropout", nn.Identity())
    head = getattr(model, "classifier", None) or getattr(model, "score", None)
    if head is None:
        raise NotImplementedError("no token head that the flat layout knows")
    return _tensor(head(dropout(hidden_UD)))


def _tensor(scores: Any) -> torch.Tensor:
    assert isinstance(scores, torch.Tensor)
    return scores


def _mean_rows(hidden_TD: torch.Tensor, batch: Batch) -> torch.Tensor:
    lengths = batch.last_tokens - batch.first_tokens + 1
    row_of_token = torch.repeat_interleave(torch.arange(len(lengths), device=hidden_TD.device), lengths)
    real_TD = hidden_TD[: batch.num_tokens]
    total_BD = hidden_TD.new_zeros(len(lengths), hidden_TD.shape[1]).index_add(0, row_of_token, real_TD)
    return total_BD / lengths[:, None]


def position_offset(model: nn.Module) -> int:
    """Return the position id of a sequence's first token: ``padding_idx + 1`` for RoBERTa and its kin, else 0."""
    embeddings = getattr(base_model(inner(model)), "embeddings", None)
    counts_from_padding = hasattr(embeddings, "create_position_ids_from_input_ids")
    padding_idx = getattr(embeddings, "padding_idx", None)
    return int(padding_idx) + 1 if counts_from_padding and padding_idx is not None else 0


def choose_layout(model: nn.Module, reads: Reads, vocab_size: int, wanted: str) -> tuple[LayoutName, str]:
    """Return the layout to use and why, trying the flat one where ``wanted`` is ``auto`` or ``flat``.

    The model is compared with itself on a few rows of random tokens, without dropout. On
    return it is set to the attention function of the layout chosen.
    """
    if wanted == "padded":
        return "padded", "as configured"
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


def collator_for(
    model: nn.Module, layout: LayoutName, pad_token_id: int, device: torch.device, shapes: Shapes = EXACT
) -> Collator:
    """Return the collator that lays out batches for ``model``."""
    return Collator(layout, pad_token_id, position_offset(model) if layout == "flat" else 0, device, shapes)


def shapes_for(precision: Precision, device: torch.device) -> Shapes:
    """Return how shapes are rounded: bf16 on the CPU compiles a kernel for each."""
    return FEW if precision == "bf16" and device.type == "cpu" else EXACT


def _layout_difference(model: nn.Module, reads: Reads, vocab_size: int) -> float:
    """Return the largest difference between the two layouts' scores, relative to their size."""
    config: Any = inner(model).config
    before = copy.copy(config._attn_implementation)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    pad_token_id = getattr(config, "pad_token_id", None) or 0
    data = _probe_rows(vocab_size, pad_token_id, reads)
    scores = []
    try:
        for layout in ("padded", "flat"):
            if layout == "flat":
                _set_attention(model, FLAT_ATTENTION)
            scorer = Scorer(model, layout, reads)
            batch = collator_for(model, layout, pad_token_id, device, FEW)(data, np.arange(len(data)))
            with torch.no_grad(), scorer.surrounding(batch):
                scores.append(scorer(batch).double())
    finally:
        _set_attention(model, before)
        model.train(was_training)
    padded, flat = scores
    return float((padded - flat).abs().max() / padded.abs().max().clamp(min=1e-6))


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
