# mypy: disable-error-code="no-untyped-call"
"""What the heads of the networks trained from scratch share: an encoder, dropout, one linear layer.

Shapes: B rows, T tokens of the longest row, H numbers per token that the encoder gives, K scores.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput


class Head(PreTrainedModel):
    """An ``encoder``, a ``dropout`` and a ``classifier``; the network's own base class stands beside it."""

    encoder_class: ClassVar[type[PreTrainedModel]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder = self.encoder_class(config)
        self.add_layers(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.output_size, int(config.num_labels or 0))
        self.post_init()

    def add_layers(self, config: Any) -> None:
        """Add what a head has between its encoder and its dropout."""

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return [..., K] for [..., H]."""
        found: torch.Tensor = self.classifier(self.dropout(hidden))
        return found


class SequenceHead(Head):
    """A row's token vectors become one, which gets the scores."""

    def pool(self, hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """Return [B, H]: the row as one vector."""
        raise NotImplementedError

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Return ``logits`` [B, K] for ``input_ids`` and ``attention_mask`` [B, T]."""
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden_BTH = self.encoder(input_ids, mask_BT).last_hidden_state
        return SequenceClassifierOutput(logits=self.scores(self.pool(hidden_BTH, mask_BT)))


class TokenHead(Head):
    """Every token gets scores."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> TokenClassifierOutput:
        """Return ``logits`` [B, T, K] for ``input_ids`` and ``attention_mask`` [B, T]."""
        hidden_BTH = self.encoder(input_ids, attention_mask).last_hidden_state
        return TokenClassifierOutput(logits=self.scores(hidden_BTH))
