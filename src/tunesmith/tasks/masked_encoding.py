"""Texts as tokens that may be masked: the word of every token, windows of long texts, what a tokenizer offers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged, RaggedBuilder
from tunesmith.tasks.encoding import BATCH_ROWS, encode_batch, filler_token, flat, lengths_of, special_tokens
from tunesmith.tasks.masking import NEVER
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = npt.NDArray[np.int64]

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han (with extensions and compatibility forms).
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class Windows:
    """The texts of a split, those that are too long cut into several windows."""

    ids: Ragged
    """With the tokenizer's special tokens around each window."""
    words: Ragged
    """The number of each token's word within its text; ``NEVER`` for tokens that are never masked."""
    firsts: IntArray
    """[M + 1]: the first window of each text."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What masking needs of a tokenizer."""

    mask_id: int
    special_ids: frozenset[int]
    """Never masked and never put in a token's place: special tokens, the unknown one among them."""
    random_ids: IntArray
    """All other ids."""


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Return what masking needs of ``tokenizer``.

    Raises ``InputError`` when it has no mask token, or is not a fast one: only those tell the words of tokens.
    """
    if tokenizer.mask_token_id is None:
        raise InputError(
            "The model's tokenizer has no mask token: the model is no encoder trained to fill in masked words.",
            "Choose an encoder, such as sample:minilm; for a model that writes text use task: causal_lm.",
        )
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(
            "The model's tokenizer is not a fast one, which alone can tell the word of a token.",
            "Choose a model whose folder holds a tokenizer.json.",
        )
    added = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = added.union(tokenizer.all_special_ids)
    others = sorted(set(tokenizer.get_vocab().values()) - special)
    return Vocabulary(int(tokenizer.mask_token_id), frozenset(special), np.array(others, dtype=np.int64))


def encode_windows(
    texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase, max_length: int, special_ids: frozenset[int]
) -> Windows:
    """Tokenise texts; those over ``max_length`` become windows that do not overlap and end between words if they can.

    No token is lost. A text without any becomes one window of special tokens.
    """
    before, after = special_tokens(tokenizer)
    room = max(max_length - len(before) - len(after), 1)
    nothing = [] if before or after else [filler_token(tokenizer)]  # a row never comes out empty
    around_before, around_after = [NEVER] * len(before), [NEVER] * len(after)
    ids_R, words_R = RaggedBuilder(), RaggedBuilder()
    counts: list[IntArray] = []
    for batch in _tokenised(texts, tokenizer):
        ids_N: list[list[int]] = []
        words_N: list[list[int]] = []
        cuts_N = [list(_cuts(words, room)) for _, words in batch]
        for (ids, words), cuts in zip(batch, cuts_N, strict=True):
            for first, last in cuts:
                ids_N.append([*before, *(ids[first:last] or nothing), *after])
                words_N.append([*around_before, *(words[first:last] or [NEVER] * len(nothing)), *around_after])
        values, lengths = flat(ids_N), lengths_of(ids_N)
        word_numbers = flat(words_N)
        word_numbers[np.isin(values, list(special_ids))] = NEVER  # those written in the texts themselves
        ids_R.add(values, lengths)
        words_R.add(word_numbers, lengths)
        counts.append(lengths_of(cuts_N))
    firsts = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *counts]))
    return Windows(ids_R.finish(), words_R.finish(), firsts)


def _tokenised(texts: Sequence[str | None], tokenizer: Any) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Yield, batch by batch, the ids of each text and the word number of each."""
    backend = tokenizer.backend_tokenizer
    pieces = backend.encode("a b", add_special_tokens=False).word_ids
    tells_words = len(set(pieces)) == len(pieces) > 1  # some tokenizers take a whole text for one word
    for start in range(0, len(texts), BATCH_ROWS):
        batch = [text or "" for text in texts[start : start + BATCH_ROWS]]
        found = encode_batch(tokenizer, batch, add_special_tokens=False, aligned=True)
        rows = []
        for text, encoding in zip(batch, found, strict=True):
            if tells_words and text.isascii():
                words = [NEVER if word is None else word for word in encoding.word_ids]
            else:
                words = _word_numbers(text, encoding.word_ids, encoding.offsets)
            rows.append((encoding.ids, words))
        yield rows


def _word_numbers(text: str, words: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the word of each token: the tokenizer's own, cut further at spaces and beside characters without any."""
    numbers: list[int] = []
    number, last_word, last_end, after_blank = -1, None, 0, False
    for word, (start, end) in zip(words, offsets, strict=True):
        if not numbers or word != last_word or (not after_blank and _begins_word(text, last_end, start)):
            number += 1
        numbers.append(number)
        after_blank = not text[start:end].strip()  # a space that is a token of its own goes with what follows
        last_word, last_end = word, max(end, last_end)
    return numbers


def _begins_word(text: str, last_end: int, start: int) -> bool:
    """Say whether a word begins at ``start``, given where the token before it ends."""
    if start < last_end or start >= len(text):
        return False  # two tokens of one character
    if start > last_end or text[start].isspace():
        return True
    before = text[last_end - 1]
    return before.isspace() or bool(_UNSPACED.match(before) or _UNSPACED.match(text[start]))


def _cuts(words: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Yield where each window of a text begins and ends: at most ``room`` tokens, between words if possible."""
    first = 0
    while len(words) - first > room:
        last = first + room
        while last > first and words[last] == words[last - 1]:
            last -= 1
        last = last if last > first else first + room
        yield first, last
        first = last
    yield first, len(words)
