"""Texts to tokens: ids, which of them are trained, and the bytes that each stands for.

Shapes: T tokens of a row, U of them trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.tasks.chat.masks import Span, TextRow
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as tokens."""

    ids: npt.NDArray[np.int32]
    """[T]"""
    is_trained: BoolArray
    """[T]"""
    num_bytes: npt.NDArray[np.int32]
    """[T]: UTF-8 bytes of the text that each token is the first to stand for; 0 for special tokens."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reads(self) -> npt.NDArray[np.int32]:
        """[U]: positions whose next token is trained; the first token of a row has none before it."""
        return np.flatnonzero(self.is_trained[1:]).astype(np.int32)

    def part(self, first: int, last: int) -> Tokens:
        """Return the tokens from ``first`` up to ``last``."""
        cut = slice(first, last)
        return Tokens(self.ids[cut], self.is_trained[cut], self.num_bytes[cut])


class TextTokenizer:
    """A fast tokenizer and what is known of its special tokens.

    Raises ``InputError`` for any other: only fast ones say which characters a token stands for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise InputError(
                "The model's tokenizer is not a fast one, which alone can tell the characters of a token.",
                "Choose a model whose folder holds a tokenizer.json.",
            )
        self._tokenizer: Any = tokenizer
        named = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = np.array(sorted(named | set(tokenizer.all_special_ids)), dtype=np.int64)
        self.end: int | None = tokenizer.eos_token_id
        self._before, self._after = _added(tokenizer)

    @property
    def filler(self) -> int:
        """The token that stands for a row that would have none."""
        candidates = (self.end, self._tokenizer.bos_token_id, self._tokenizer.pad_token_id, 0)
        return int(next(token for token in candidates if token is not None))

    def rows(self, rows: Sequence[TextRow]) -> list[Tokens]:
        """Tokenise rows of conversations; an answer at the end that the template does not end gets the end token."""
        texts = [row.text for row in rows]
        found = []
        for row, (text, ids_T, offsets_T2) in zip(rows, self._encode(texts), strict=True):
            tokens = self._tokens(text, ids_T, offsets_T2, row.spans)
            if row.ends_with_answer and self.end is not None and not self._is_ended(text, ids_T, offsets_T2):
                tokens = _with_end(tokens, self.end)
            found.append(tokens)
        return found

    def prompts(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts of which nothing is trained."""
        return [self._tokens(text, ids_T, offsets_T2, ()) for text, ids_T, offsets_T2 in self._encode(texts)]

    def documents(self, texts: Sequence[str], *, ended: bool = True) -> list[Tokens]:
        """Tokenise plain texts, all of which is trained: with what the tokenizer puts before a text, and an end.

        Neither is put where the text has it already.
        """
        found = []
        for text, ids_T, offsets_T2 in self._encode(texts):
            tokens = self._tokens(text, ids_T, offsets_T2, ((0, len(text)),) if ended else ())
            if self._before and tokens.ids[: len(self._before)].tolist() != self._before:
                count = len(self._before)
                tokens = Tokens(
                    np.concatenate([np.array(self._before, dtype=np.int32), tokens.ids]),
                    np.concatenate([np.full(count, ended), tokens.is_trained]),
                    np.concatenate([np.zeros(count, dtype=np.int32), tokens.num_bytes]),
                )
            if ended and self.end is not None and (not len(ids_T) or ids_T[-1] != self.end):
                tokens = _with_end(tokens, self.end)
            found.append(tokens)
        return found

    def special_after(self, text: str, position: int) -> int | None:
        """Return the first special token that starts at or after a position of a text."""
        ((text, ids_T, offsets_T2),) = self._encode([text])
        is_special_T = np.isin(ids_T, self._special) & (offsets_T2[:, 0] >= position)
        return int(ids_T[np.argmax(is_special_T)]) if is_special_T.any() else None

    def _encode(self, texts: Sequence[str]) -> list[tuple[str, npt.NDArray[np.int32], IntArray]]:
        """Return each text (as it was tokenised), its ids [T], and the characters of every token [T, 2]."""
        if not texts:
            return []
        texts = [_encodable(text) for text in texts]
        batch = self._tokenizer(
            texts,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [
            (text, np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int64).reshape(-1, 2))
            for text, ids, offsets in zip(texts, batch["input_ids"], batch["offset_mapping"], strict=True)
        ]

    def _tokens(self, text: str, ids_T: npt.NDArray[np.int32], offsets_T2: IntArray, spans: Sequence[Span]) -> Tokens:
        starts_T, ends_T = offsets_T2[:, 0], offsets_T2[:, 1]
        # Some tokenizers leave white space out of a token's characters, and give the bytes of one
        # character the same place: what a token is the first to reach is its own.
        reached_T = np.maximum.accumulate(ends_T) if len(ends_T) else ends_T
        before_T = np.concatenate([np.zeros(1, dtype=np.int64), reached_T])[: len(ids_T)]
        starts_T = np.where(starts_T == ends_T, np.minimum(starts_T, before_T), starts_T)
        is_trained_T = np.zeros(len(ids_T), dtype=np.bool_)
        for first, last in spans:
            is_empty_T = starts_T == ends_T
            is_trained_T |= np.where(is_empty_T, (starts_T >= first), (ends_T > first)) & (starts_T < last)
        bytes_C = _bytes_before(text)
        num_bytes_T = (bytes_C[reached_T] - bytes_C[before_T]).astype(np.int32)
        num_bytes_T[np.isin(ids_T, self._special)] = 0
        return Tokens(ids_T, is_trained_T, num_bytes_T)

    def _is_ended(self, text: str, ids_T: npt.NDArray[np.int32], offsets_T2: IntArray) -> bool:
        """Say whether the last token that is no white space is a special one."""
        for token, (start, end) in zip(ids_T[::-1].tolist(), offsets_T2[::-1].tolist(), strict=True):
            if token in self._special:
                return True
            if text[start:end].strip():
                return False
        return False


def _with_end(tokens: Tokens, end: int) -> Tokens:
    return Tokens(
        np.append(tokens.ids, np.int32(end)),
        np.append(tokens.is_trained, np.True_),
        np.append(tokens.num_bytes, np.int32(0)),
    )


def _bytes_before(text: str) -> IntArray:
    """Return [characters + 1]: how many UTF-8 bytes stand before each character."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(widths)])


def _encodable(text: str) -> str:
    """Return a text without lone surrogates, which no tokenizer takes; as long as it was."""
    return text if text.isascii() else "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)


def _added(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer itself puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    num_special = len(whole) - len(plain)
    first = next((i for i in range(num_special + 1) if whole[i : i + len(plain)] == plain), 0)
    return list(whole[:first]), list(whole[first + len(plain) :])
