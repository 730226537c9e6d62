"""A row as the model reads it, with what of it is trained: for ``tunesmith data inspect --show-mask``."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Encoded, as_ragged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def shown_pieces(encoded: Encoded, row: int, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, bool]]:
    """Return a row's text in pieces, each with whether it is trained; special tokens are written out.

    The pieces joined are the decoded row. ``row`` is one of ``encoded``'s own rows (windows). The bytes of a
    character that lies across a border belong to the piece in which it ends.
    """
    assert encoded.reads is not None, "only rows of tokens have trained parts"
    ids = as_ragged(encoded.inputs["input_ids"])[row].tolist()
    is_trained = np.zeros(len(ids), dtype=np.bool_)
    is_trained[np.asarray(encoded.reads[row], dtype=np.int64) + 1] = True
    borders = [0, *(np.flatnonzero(np.diff(is_trained)) + 1).tolist(), len(ids)]
    whole = _decoded(tokenizer, ids)
    cuts = [0]
    for border in borders[1:-1]:
        cuts.append(max(cuts[-1], _common(_decoded(tokenizer, ids[:border]), whole)))
    cuts.append(len(whole))
    return [
        (whole[first:last], bool(is_trained[border]))
        for (first, last), border in zip(pairwise(cuts), borders[:-1], strict=True)
        if first < last
    ]


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _common(first: str, second: str) -> int:
    """Return how long the beginning is that two texts share."""
    limit = min(len(first), len(second))
    return next((i for i in range(limit) if first[i] != second[i]), limit)
