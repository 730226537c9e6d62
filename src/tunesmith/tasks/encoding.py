"""Texts to token ids, shared by the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Array, Ragged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 1000


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str | None],
    text_pairs: Sequence[str | None] | None,
    max_length: int,
) -> tuple[dict[str, Ragged], int]:
    """Tokenise rows and return the model inputs with the number of rows that lost tokens.

    Special tokens are added and count towards ``max_length``. Too long single texts lose
    their end; of pairs, the longer text loses tokens first. ``token_type_ids`` are kept only
    when the tokenizer makes them and some are not 0. A row never comes out empty, because a
    model cannot pool nothing: it gets one unknown (or end) token.
    """
    ids: list[Array] = []
    types: list[Array] = []
    num_truncated = 0
    for start in range(0, len(texts), BATCH_ROWS):
        stop = start + BATCH_ROWS
        batch_texts = [text or "" for text in texts[start:stop]]
        batch_pairs = None if text_pairs is None else [text or "" for text in text_pairs[start:stop]]
        batch = tokenizer(
            batch_texts,
            batch_pairs,
            truncation="longest_first",
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
        )
        num_truncated += _count_truncated(tokenizer, batch, batch_texts, batch_pairs, max_length)
        ids.extend(np.asarray(row or [filler_token(tokenizer)], dtype=np.int32) for row in batch["input_ids"])
        if "token_type_ids" in batch:
            types.extend(np.asarray(row or [0], dtype=np.int32) for row in batch["token_type_ids"])
    inputs = {"input_ids": Ragged.from_rows(ids)}
    if any(row.any() for row in types):
        inputs["token_type_ids"] = Ragged.from_rows(types)
    return inputs, num_truncated


def _count_truncated(
    tokenizer: PreTrainedTokenizerBase, batch: Any, texts: list[str], pairs: list[str] | None, max_length: int
) -> int:
    """Count the rows of a batch that lost tokens."""
    if batch.encodings is not None:  # a tokenizer in Rust keeps what it cut off
        return sum(1 for encoding in batch.encodings if encoding.overflowing)
    full = [i for i, row in enumerate(batch["input_ids"]) if len(row) == max_length]
    if not full:
        return 0
    whole = tokenizer(
        [texts[i] for i in full],
        None if pairs is None else [pairs[i] for i in full],
        truncation=False,
        return_attention_mask=False,
        verbose=False,
    )
    return sum(1 for row in whole["input_ids"] if len(row) > max_length)


def filler_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return what stands for a text of no tokens: the unknown token, or the nearest thing to it."""
    candidates = (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
    return next(token for token in candidates if isinstance(token, int))


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that a fast tokenizer puts before and after a text."""
    backend: Any = tokenizer.backend_tokenizer
    plain, whole = (backend.encode("a", add_special_tokens=special).ids for special in (False, True))
    num_special = len(whole) - len(plain)
    first = next((i for i in range(num_special + 1) if whole[i : i + len(plain)] == plain), 0)
    return whole[:first], whole[first + len(plain) :]
