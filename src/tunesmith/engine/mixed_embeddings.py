"""Vectors of tokens that are mixed with those of other tokens while a batch passes through a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tunesmith.engine.batch import Batch
from tunesmith.engine.stand_ins import standing_in
from tunesmith.models.wrapping import token_table
from tunesmith.types import RunError


@contextmanager
def mixed_embeddings(model: nn.Module, batch: Batch) -> Iterator[None]:
    """Let the model's table of tokens give mixed vectors for ``batch``, where its tokens have partners.

    Of each token that is ``share`` times its own vector and ``1 - share`` times its partner's. What stands in for the
    table's ``forward`` gives both. Raises ``RunError`` where the model has not looked the batch's tokens up in it.
    """
    if batch.partners is None or batch.share_of_own is None:
        yield
        return
    table, ids, partners = token_table(model), batch.inputs["input_ids"], batch.partners
    assert table is not None, "who mixes tokens has looked whether there is a table"
    below, num_lookups = table.forward, 0
    share = batch.share_of_own

    def mixed(given: torch.Tensor) -> torch.Tensor:
        nonlocal num_lookups
        own: torch.Tensor = below(given)
        if given.shape != ids.shape or not torch.equal(given, ids):
            return own
        num_lookups += 1
        other: torch.Tensor = below(partners)
        return own * share.to(own.dtype) + other * (1 - share).to(own.dtype)

    with standing_in(table, mixed):
        yield
    if not num_lookups:
        raise RunError(
            "train.mixup: this model does not look its tokens up in its table as they are, so that they cannot be "
            "mixed.\n  → Leave train.mixup out, or choose another model."
        )
