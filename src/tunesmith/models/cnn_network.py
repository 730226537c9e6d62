# mypy: disable-error-code="no-untyped-call"
"""The TextCNN classifier (Kim 2014) as a ``transformers`` model: saved, loaded and trained like any other.

Shapes: B rows, T tokens of the longest row, E embedding size, H = widths x channels, K scores.
Rows are padded on the right; what stands in the padding never reaches a row's scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from tunesmith.models.scratch_heads import SequenceHead


class CnnConfig(PretrainedConfig):
    """Sizes of the network: one bank of ``num_channels`` filters for each of ``widths`` (in tokens)."""

    model_type = "tunesmith_cnn"

    def __init__(
        self,
        *,
        vocab_size: int = 30000,
        embedding_size: int = 256,
        widths: Sequence[int] = (3, 4, 5),
        num_channels: int = 100,
        dropout: float = 0.5,
        pad_token_id: int = 0,
        **settings: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.widths = list(widths)
        self.num_channels = num_channels
        self.dropout = dropout
        self.pad_token_id = pad_token_id
        super().__init__(**settings)

    @property
    def output_size(self) -> int:
        """H: numbers per token that the encoder gives."""
        return len(self.widths) * self.num_channels


class CnnPreTrainedModel(PreTrainedModel):
    """What the encoder and its heads share: initialisation, names."""

    config_class = CnnConfig
    base_model_prefix = "encoder"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise convolutions for rectifiers (He et al. 2015) and the rest as Glorot & Bengio 2010."""
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
            if module.padding_idx is not None:
                module.weight[module.padding_idx].zero_()
        if isinstance(module, (nn.Conv1d, nn.Linear)) and module.bias is not None:
            module.bias.zero_()


class CnnModel(CnnPreTrainedModel):
    """Embeddings and parallel convolutions: one vector per token.

    A token's vector comes from the windows centred on it. Windows may hang over the row's ends,
    where they see zeros, so that every token has a vector and no row is too short for a width.
    """

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.num_channels, width) for width in config.widths
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Return ``last_hidden_state`` [B, T, H] for ``input_ids`` and ``attention_mask`` [B, T]."""
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        embedded_BTE = self.embeddings(input_ids)
        embedded_BET = (embedded_BTE * mask_BT.unsqueeze(-1).to(embedded_BTE.dtype)).transpose(1, 2)
        outputs = []
        for width, convolution in zip(self.config.widths, self.convolutions, strict=True):
            padded = nn.functional.pad(embedded_BET, ((width - 1) // 2, width // 2))
            outputs.append(convolution(padded).relu())
        return BaseModelOutput(last_hidden_state=torch.cat(outputs, dim=1).transpose(1, 2))


class CnnForSequenceClassification(SequenceHead, CnnPreTrainedModel):
    """The encoder, the maximum of every channel over the row's tokens, and a linear layer."""

    encoder_class = CnnModel

    def pool(self, hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        # After the rectifier nothing is below zero, so zero in the padding never wins over a real token.
        return (hidden_BTH * mask_BT.unsqueeze(-1).to(hidden_BTH.dtype)).amax(dim=1)


AutoConfig.register(CnnConfig.model_type, CnnConfig, exist_ok=True)
AutoModel.register(CnnConfig, CnnModel, exist_ok=True)
AutoModelForSequenceClassification.register(CnnConfig, CnnForSequenceClassification, exist_ok=True)
