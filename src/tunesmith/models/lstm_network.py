# mypy: disable-error-code="no-untyped-call"
"""The BiLSTM classifier and tagger as ``transformers`` model, so that it is saved, loaded and trained like any other.

Shapes: B rows, T tokens of the longest row, E embedding size, H hidden size of all directions, K scores.
Rows are padded on the right; what stands in the padding never reaches a row's scores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from tunesmith.models.scratch_heads import SequenceHead, TokenHead

POOLINGS = ("max", "mean", "last", "attention")


class LstmConfig(PretrainedConfig):
    """Sizes of the network; ``hidden_size`` counts one direction."""

    model_type = "tunesmith_lstm"

    def __init__(
        self,
        *,
        vocab_size: int = 30000,
        embedding_size: int = 256,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.3,
        pooling: str = "max",
        pad_token_id: int = 0,
        **settings: Any,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; it must be one of {', '.join(POOLINGS)}")
        if not isinstance(bidirectional, bool):
            raise ValueError(f"bidirectional is {bidirectional!r}; it must be true or false")
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.pooling = pooling
        self.pad_token_id = pad_token_id
        super().__init__(**settings)

    @property
    def output_size(self) -> int:
        """H: numbers per token that the encoder gives."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class LstmLayer(nn.Module):
    """One (bi)directional layer and the dropout before it."""

    def __init__(self, input_size: int, config: LstmConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(input_size, config.hidden_size, batch_first=True, bidirectional=config.bidirectional)

    def forward(self, hidden_BTE: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Return [B, T, H]; zeros in the padding."""
        packed = pack_padded_sequence(self.dropout(hidden_BTE), lengths_B, batch_first=True, enforce_sorted=False)
        output, _ = self.lstm(packed)
        hidden_BTH, _ = pad_packed_sequence(output, batch_first=True, total_length=hidden_BTE.shape[1])
        return hidden_BTH


class LstmPreTrainedModel(PreTrainedModel):
    """What the encoder and its heads share: initialisation, names."""

    config_class = LstmConfig
    base_model_prefix = "encoder"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as is usual for LSTMs: orthogonal recurrences, forget gates that start open.

        Saxe et al. 2014 (orthogonal weights), Jozefowicz et al. 2015 (forget bias 1), Glorot & Bengio 2010.
        """
        if isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters(recurse=False):
                if name.startswith("weight_hh"):
                    for gate in parameter.chunk(4):
                        nn.init.orthogonal_(gate)
                elif name.startswith("weight_ih"):
                    for gate in parameter.chunk(4):
                        nn.init.xavier_uniform_(gate)
                else:
                    parameter.zero_()
                    if name.startswith("bias_ih"):
                        parameter.chunk(4)[1].fill_(1.0)  # order of the gates: input, forget, cell, output
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
            if module.padding_idx is not None:
                module.weight[module.padding_idx].zero_()
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                module.bias.zero_()


class LstmModel(LstmPreTrainedModel):
    """Embeddings and stacked LSTMs: one vector per token."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        sizes = [config.embedding_size] + [config.output_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(LstmLayer(size, config) for size in sizes)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Return ``last_hidden_state`` [B, T, H] for ``input_ids`` and ``attention_mask`` [B, T]."""
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        # A row without tokens is read as one padding token: packing knows no empty rows.
        lengths_B = mask_BT.sum(dim=1).clamp(min=1).cpu()
        hidden_BTH = self.embeddings(input_ids)
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, lengths_B)
        return BaseModelOutput(last_hidden_state=hidden_BTH)


class LstmForSequenceClassification(SequenceHead, LstmPreTrainedModel):
    """The encoder, a pooling over the row's tokens, and a linear layer."""

    encoder_class = LstmModel

    def add_layers(self, config: LstmConfig) -> None:
        if config.pooling == "attention":
            self.attention = nn.Sequential(
                nn.Linear(config.output_size, config.output_size),
                nn.Tanh(),
                nn.Linear(config.output_size, 1, bias=False),
            )

    def pool(self, hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        lengths_B = mask_BT.sum(dim=1).clamp(min=1)
        positions_T = torch.arange(hidden_BTH.shape[1], device=hidden_BTH.device)
        real_BT1 = (positions_T < lengths_B[:, None]).unsqueeze(-1)
        pooling = self.config.pooling
        pooled_BH: torch.Tensor
        if pooling == "max":
            return hidden_BTH.masked_fill(~real_BT1, float("-inf")).amax(dim=1)
        if pooling == "mean":
            return (hidden_BTH * real_BT1).sum(dim=1) / lengths_B[:, None]
        if pooling == "attention":
            # Additive attention with one learned query (Yang et al. 2016, eqs. 5 to 7).
            scores_BT1 = self.attention(hidden_BTH).masked_fill(~real_BT1, float("-inf"))
            pooled_BH = (scores_BT1.softmax(dim=1) * hidden_BTH).sum(dim=1)
            return pooled_BH
        rows_B = torch.arange(len(hidden_BTH), device=hidden_BTH.device)
        forward_BH = hidden_BTH[rows_B, lengths_B - 1, : self.config.hidden_size]
        backward_BH = hidden_BTH[:, 0, self.config.hidden_size :]  # empty when there is one direction
        return torch.cat([forward_BH, backward_BH], dim=1)


class LstmForTokenClassification(TokenHead, LstmPreTrainedModel):
    """The encoder and a linear layer on every token (the tagger of Graves and Schmidhuber 2005)."""

    encoder_class = LstmModel


AutoConfig.register(LstmConfig.model_type, LstmConfig, exist_ok=True)
AutoModel.register(LstmConfig, LstmModel, exist_ok=True)
AutoModelForSequenceClassification.register(LstmConfig, LstmForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(LstmConfig, LstmForTokenClassification, exist_ok=True)
