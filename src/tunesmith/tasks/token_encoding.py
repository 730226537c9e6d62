"""Tokens of sentences to token ids: the first piece of each is read; long sentences become several windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged, RaggedBuilder
from tunesmith.tasks.encoding import (
    BATCH_ROWS,
    encode_batch,
    filler_token,
    flat,
    lengths_of,
    special_tokens,
)
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.tasks.base import Columns


class Windows:
    """The windows of a split as they are made: ids, positions read, and how many windows each sentence has."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._before, self._after = special_tokens(tokenizer)
        self._filler = filler_token(tokenizer)
        self._room = max(max_length - len(self._before) - len(self._after), 1)
        self._ids, self._reads = RaggedBuilder(), RaggedBuilder()
        self._counts: list[npt.NDArray[np.int64]] = []
        self.num_truncated = 0

    def add(self, sentences: Sequence[Sequence[Sequence[int]]]) -> None:
        """Add sentences, as the ids of each of their words; windows end between words and do not overlap.

        A word longer than a window loses its end, which costs nothing but context: its first piece is read.
        """
        ids_N: list[list[int]] = []
        reads_N: list[list[int]] = []
        counts = []
        for words in sentences:
            num_before = len(ids_N)
            for window in self._cut(words):
                ids = [*self._before, *chain.from_iterable(window), *self._after]
                ids_N.append(ids or [self._filler])  # a row never comes out empty
                reads_N.append(list(accumulate(map(len, window[:-1]), initial=len(self._before))) if window else [])
            counts.append(len(ids_N) - num_before)
        self._ids.add(flat(ids_N), lengths_of(ids_N))
        self._reads.add(flat(reads_N), lengths_of(reads_N))
        self._counts.append(np.array(counts, dtype=np.int64))

    def _cut(self, words: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
        """Return the words of each window; a sentence without words has one window of none."""
        if sum(map(len, words)) <= self._room:
            return [words]
        self.num_truncated += any(len(word) > self._room for word in words)
        windows: list[list[Sequence[int]]] = [[]]
        length = 0
        for whole in words:
            word = whole[: self._room]
            if length + len(word) > self._room:
                windows.append([])
                length = 0
            windows[-1].append(word)
            length += len(word)
        return list(windows)

    def finish(self) -> tuple[Ragged, Ragged, npt.NDArray[np.int64] | None]:
        """Return ids, positions read, and the first window of each sentence (None where each is one window)."""
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *self._counts])
        firsts = None if (counts[1:] == 1).all() else np.cumsum(counts)
        return self._ids.finish(), self._reads.finish(), firsts


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
    for words_N in _word_ids(columns, tokenizer, filler_token(tokenizer)):
        windows.add(words_N)
    return windows


def _word_ids(columns: Columns, tokenizer: Any, filler: int) -> Iterator[list[list[list[int]]]]:
    """Yield, batch by batch, the ids of every word of every sentence; ``filler`` where the tokenizer leaves nothing."""
    tokens_N = columns["tokens"]
    needs_space = keeps_spaces(tokenizer)
    for first in range(0, len(tokens_N), BATCH_ROWS):
        batch = [list(tokens) for tokens in tokens_N[first : first + BATCH_ROWS]]
        if needs_space:
            starts = columns["starts"][first : first + BATCH_ROWS]
            batch = [_with_spaces(tokens, places) for tokens, places in zip(batch, starts, strict=True)]
        found = encode_batch(tokenizer, batch, add_special_tokens=False, is_pretokenized=True, aligned=True)
        sentences = []
        for tokens, encoding in zip(batch, found, strict=True):
            words: list[list[int]] = [[] for _ in tokens]
            for token_id, word in zip(encoding.ids, encoding.word_ids, strict=True):
                if word is not None:
                    words[word].append(token_id)
            sentences.append([word or [filler] for word in words])
        yield sentences


def keeps_spaces(tokenizer: Any) -> bool:
    """Say whether a word inside of a text is only tokenised like there when given with the space before it.

    So it is with byte-level tokenizers (GPT-2, RoBERTa), which count the space to the word.
    """
    backend = tokenizer.backend_tokenizer
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
