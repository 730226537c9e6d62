"""Tokens of a sequence as words that people read: pieces are joined, characters of Chinese stand for themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.data.documents.lines import CJK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNSPACED = re.compile(f"[{CJK}]")
"""A letter of a writing that has no spaces between words."""
_IN_WORDS = "'’-_"
_CLOSING = ".,;:!?)]}%、。，；：！？）》”’'"
_PART = "\ufffd"
"""What stands for a character of which only some bytes are there."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, or one character of Chinese, or one mark, of a sequence."""

    text: str
    places: tuple[int, ...]
    """The tokens of the sequence that it is made of."""
    is_special: bool = False
    """Whether the tokenizer added it; nobody wrote it."""
    has_space: bool = False
    """Whether a space stands before it where texts are shown."""


def words_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[Word]:
    """Return the words of a sequence of token ids, in their order: every token is in one of them.

    What is shown is what the tokenizer makes of its ids: lower case, or an unknown token, is what the model reads.
    """
    special = set(tokenizer.all_special_ids)
    found: list[Word] = []
    group: list[int] = []
    text, has_space = "", False

    def close() -> None:
        nonlocal group
        if group:
            found.append(Word(text.strip() or text, tuple(group), has_space=has_space))
        group = []

    for place, token in enumerate(ids):
        if token in special:
            close()
            found.append(Word(_decoded(tokenizer, [token]), (place,), is_special=True, has_space=True))
            continue
        joined = _decoded(tokenizer, [*(ids[one] for one in group), token])
        if group and _goes_on(text, joined):
            group.append(place)
            text = joined
            continue
        before, was_open = text, bool(group)
        close()
        group, text = [place], _decoded(tokenizer, [token])
        has_space = _is_spaced(before, joined, text) if was_open else True
    close()
    return found


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _goes_on(text: str, joined: str) -> bool:
    """Say whether the token that makes ``joined`` of ``text`` is of the same word."""
    if text.endswith(_PART):
        return True
    if not joined.startswith(text) or joined == text:
        return joined == text
    first, last = joined[len(text)], text[-1:]
    if _UNSPACED.match(first) or _UNSPACED.match(last):
        return False
    return all(letter.isalnum() or letter in _IN_WORDS or letter == _PART for letter in (first, last))


def _is_spaced(before: str, joined: str, text: str) -> bool:
    """Say whether a word is shown with a space before it, which some tokenizers put between all words."""
    if not joined[len(before) : len(before) + 1].isspace():
        return False
    first, last = text.strip()[:1], before.strip()[-1:]
    return not (first in _CLOSING or _UNSPACED.match(first) or _UNSPACED.match(last))
