"""One vector of all of a sequence's last hidden states, for models without a head that makes one.

Shapes: S sequences, T tokens of a flat row, L tokens of the longest padded row, D numbers per hidden state.
"""

from __future__ import annotations

import torch

from tunesmith.engine.batch import Batch
from tunesmith.models.observation import RowReading


def pooled_flat(hidden_TD: torch.Tensor, batch: Batch, pooling: RowReading) -> torch.Tensor:
    """Return [S, D]: of every sequence of a flat batch its first state, its last one, or the mean of all."""
    if pooling == "mean":
        return _mean_flat(hidden_TD, batch)
    return hidden_TD[batch.first_tokens if pooling == "first" else batch.last_tokens]


def pooled_padded(hidden_SLD: torch.Tensor, mask_SL: torch.Tensor, pooling: RowReading) -> torch.Tensor:
    """Return [S, D]: the same of a batch that is padded on the right; ``mask_SL`` is true where tokens are real."""
    if pooling == "first":
        return hidden_SLD[:, 0]
    lengths_S = mask_SL.sum(dim=1)
    if pooling == "last":
        return hidden_SLD[torch.arange(len(lengths_S), device=hidden_SLD.device), lengths_S - 1]
    real_SLD = hidden_SLD * mask_SL[:, :, None].to(hidden_SLD.dtype)
    return real_SLD.sum(dim=1) / lengths_S[:, None]


def _mean_flat(hidden_TD: torch.Tensor, batch: Batch) -> torch.Tensor:
    lengths = batch.last_tokens - batch.first_tokens + 1
    in_order = torch.arange(len(lengths), device=hidden_TD.device)
    if batch.laid_out is not None:
        in_order = batch.first_tokens.argsort()
    row_of_token = torch.repeat_interleave(in_order, lengths[in_order], output_size=batch.num_tokens)
    real_TD = hidden_TD[: batch.num_tokens]
    total_SD = hidden_TD.new_zeros(len(lengths), hidden_TD.shape[1]).index_add(0, row_of_token, real_TD)
    return total_SD / lengths[:, None]
