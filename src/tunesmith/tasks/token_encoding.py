"""Tokens of sentences to token ids: the first piece of each is read; long sentences become several windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.tasks.encoding import BATCH_ROWS, filler_token, special_tokens
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.tasks.base import Columns


class Windows:
    """The windows of a split as they are made: ids, positions read, and how many windows each sentence has."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._before, self._after = special_tokens(tokenizer)
        self._room = max(max_length - len(self._before) - len(self._after), 1)
        self.ids: list[list[int]] = []
        self.reads: list[list[int]] = []
        self.firsts: list[int] = [0]
        self.num_truncated = 0

    def add(self, words: Sequence[Sequence[int]], filler: int) -> None:
        """Add a sentence, as the ids of each of its words; windows end between words and do not overlap.

        A word longer than a window loses its end, which costs nothing but context: its first piece is read.
        """
        ids, reads = list(self._before), list[int]()
        self.num_truncated += any(len(word) > self._room for word in words)
        for whole in words:
            word = whole[: self._room]
            if len(ids) - len(self._before) + len(word) > self._room:
                self._close(ids, reads)
                ids, reads = list(self._before), []
            reads.append(len(ids))
            ids += word
        if not words and not self._before and not self._after:
            ids.append(filler)  # a row never comes out empty
        self._close(ids, reads)
        self.firsts.append(len(self.ids))

    def _close(self, ids: list[int], reads: list[int]) -> None:
        self.ids.append([*ids, *self._after])
        self.reads.append(reads)


def encode_tokens(columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Windows:
    """Tokenise the sentences of ``tokens`` (and ``starts``, which tell where spaces stood) into windows.

    Raises ``InputError`` for a tokenizer that is not a fast one: only those tell which piece belongs to which token.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(
            "The model's tokenizer is not a fast one, which alone can tell the pieces of a token.",
            "Choose a model whose folder holds a tokenizer.json.",
        )
    windows = Windows(tokenizer, max_length)
    filler = filler_token(tokenizer)
    for words_N in _word_ids(columns, tokenizer, filler):
        for words in words_N:
            windows.add(words, filler)
    return windows


def _word_ids(columns: Columns, tokenizer: Any, filler: int) -> Iterator[list[list[list[int]]]]:
    """Yield, batch by batch, the ids of every word of every sentence; ``filler`` where the tokenizer leaves nothing."""
    backend = tokenizer.backend_tokenizer
    tokens_N = columns["tokens"]
    needs_space = _needs_space(backend)
    for first in range(0, len(tokens_N), BATCH_ROWS):
        batch = [list(tokens) for tokens in tokens_N[first : first + BATCH_ROWS]]
        if needs_space:
            starts = columns["starts"][first : first + BATCH_ROWS]
            batch = [_with_spaces(tokens, places) for tokens, places in zip(batch, starts, strict=True)]
        found = backend.encode_batch(batch, is_pretokenized=True, add_special_tokens=False)
        sentences = []
        for tokens, encoding in zip(batch, found, strict=True):
            words: list[list[int]] = [[] for _ in tokens]
            for token_id, word in zip(encoding.ids, encoding.word_ids, strict=True):
                if word is not None:
                    words[word].append(token_id)
            sentences.append([word or [filler] for word in words])
        yield sentences


def _needs_space(backend: Any) -> bool:
    """Say whether a word inside of a text is only tokenised like there when given with the space before it.

    So it is with byte-level tokenizers (GPT-2, RoBERTa), which count the space to the word.
    """
    whole = backend.encode("a b", add_special_tokens=False).ids

    def split(words: list[str]) -> list[int]:
        ids: list[int] = backend.encode(words, is_pretokenized=True, add_special_tokens=False).ids
        return ids

    return bool(split(["a", "b"]) != whole and split(["a", " b"]) == whole)


def _with_spaces(tokens: list[str], starts: Sequence[int]) -> list[str]:
    end = 0
    found = []
    for token, start in zip(tokens, starts, strict=True):
        found.append(f" {token}" if start > end else token)
        end = start + len(token)
    return found


def windows_of(windows: Windows) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Return the first window of each sentence, or None when every sentence is one window."""
    firsts = np.asarray(windows.firsts, dtype=np.int64)
    return None if int(firsts[-1]) == len(firsts) - 1 else firsts
