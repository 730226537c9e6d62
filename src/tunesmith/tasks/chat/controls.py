"""Control tokens in what people wrote: text that looks like one stays text.

A template writes control tokens; users quote them. Before a message is rendered, each text in it that would be
taken for a control token gets a mark inside, which no template writes. Where the rendered text has marks, they are
taken out again, and the tokenizer reads what they stood in as text, but what the template wrote as tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Start and end in characters."""

MARK = "\ufdd0"
"""Stands after the first character of a text that must not become a control token; no character of any writing."""
_UNKNOWN = "\ufffd"
_FIRST_STAND_IN = 0x100000
_LAST_STAND_IN = 0x10FFFD
_STAND_INS = re.compile(f"[{chr(_FIRST_STAND_IN)}-{chr(_LAST_STAND_IN)}]")
"""Characters for private use, of which what stands for a control token is made."""


@dataclass(frozen=True, slots=True)
class Controls:
    """The control tokens of a tokenizer: their texts, and where these stand in other texts."""

    ids: Mapping[str, int]
    pattern: re.Pattern[str]
    """Finds the longest at every place, overlapping ones too."""
    apart: re.Pattern[str]
    """Finds the longest, one after the other, but for those with a mark."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Controls | None:
        """Return those of a tokenizer, or None where it has none."""
        ids = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        ids = {content: index for content, index in ids.items() if content}
        if not ids:
            return None
        either = "|".join(map(re.escape, sorted(ids, key=len, reverse=True)))
        return cls(ids, re.compile(f"(?=({either}))"), re.compile(f"(?:{either})(?!{MARK})"))

    def marked(self, value: Any) -> Any:
        """Return a value of JSON with a mark in each text that looks like a control token."""
        if isinstance(value, str):
            if MARK in value:
                value = value.replace(MARK, _UNKNOWN)
            if self.pattern.search(value) is None:
                return value
            starts = [found.start() + 1 for found in self.pattern.finditer(value)]
            pieces = [value[first:last] for first, last in zip([0, *starts], [*starts, len(value)], strict=True)]
            return MARK.join(pieces)
        if isinstance(value, dict):
            return {key: self.marked(item) for key, item in value.items()}
        return [self.marked(item) for item in value] if isinstance(value, list) else value

    def found_in(self, text: str) -> set[str]:
        """Return the control tokens that stand in a text, or that a marked one quotes."""
        return {found[1] for found in self.pattern.finditer(without_marks(text))}

    def quoted_in(self, text: str) -> set[str]:
        """Return the control tokens that a marked text quotes."""
        plain = without_marks(text)
        places = [found.start() for found in re.finditer(MARK, text)]
        # Each mark before has moved the text by one, and this one stands after the first character.
        found = [self.pattern.match(plain, place - number - 1) for number, place in enumerate(places)]
        return {match[1] for match in found if match is not None}


def without_marks(text: str) -> str:
    """Return a text as it was before it was marked."""
    return text.replace(MARK, "") if MARK in text else text


def spans_without_marks(text: str, spans: Sequence[Span]) -> Sequence[Span]:
    """Return places of a marked text as places of the text without its marks."""
    if MARK not in text:
        return spans
    is_mark_C = np.array([character == MARK for character in text] + [False])
    before_C = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(is_mark_C)])
    return [(first - int(before_C[first]), last - int(before_C[last])) for first, last in spans]


class GuardedTokenizer:
    """A copy of a fast tokenizer that reads control tokens only where a template wrote them.

    It knows no control token by its text; each has a stand-in of the same length, of characters that nobody writes.
    """

    def __init__(self, tokenizer: Any, controls: Controls) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._controls = controls
        self._backend: Any = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        self._stand_ins = {
            content: chr(_FIRST_STAND_IN + number) * len(content) for number, content in enumerate(controls.ids)
        }
        known = tokenizer.added_tokens_decoder
        added = [
            AddedToken(
                stand_in,
                special=False,
                lstrip=known[controls.ids[content]].lstrip,
                rstrip=known[controls.ids[content]].rstrip,
                normalized=known[controls.ids[content]].normalized,
            )
            for content, stand_in in self._stand_ins.items()
        ]
        self._backend.add_tokens(added)
        self._ids = {
            self._backend.token_to_id(stand_in): controls.ids[content] for content, stand_in in self._stand_ins.items()
        }

    def encode(self, texts: Sequence[str]) -> list[tuple[list[int], Encoding]]:
        """Return the ids of marked texts, and their encodings, whose places are those without the marks."""
        written = [
            without_marks(self._controls.apart.sub(lambda found: self._stand_ins[found[0]], _harmless(text)))
            for text in texts
        ]
        encodings = self._backend.encode_batch(written, add_special_tokens=False)
        return [([self._ids.get(token, token) for token in one.ids], one) for one in encodings]


def _harmless(text: str) -> str:
    """Return a text in which nobody has written a stand-in."""
    return text if text.isascii() else _STAND_INS.sub(_UNKNOWN, text)
