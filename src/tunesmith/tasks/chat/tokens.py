"""Texts to tokens: ids, which of them are trained, and the bytes that each stands for.

Shapes: N rows, T tokens (of a row, or of all rows one after the other), U of them trained, C characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from tunesmith.tasks.chat.controls import MARK, Controls, GuardedTokenizer, Span, spans_without_marks, without_marks
from tunesmith.tasks.chat.masks import TextRow
from tunesmith.tasks.encoding import encode_batch, flat, is_plain, lengths_of
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BATCH_CHARACTERS = 1 << 20
"""Texts are taken together up to about this length."""
_GAP = "\0"


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


@dataclass(frozen=True, slots=True)
class TokenRows(Sequence[Tokens]):
    """Texts as tokens, those of all rows one after the other."""

    tokens: Tokens
    """[T]"""
    offsets: IntArray
    """[N + 1]: where each row starts; the last entry is T."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Tokens: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tokens]: ...

    def __getitem__(self, index: int | slice) -> Tokens | list[Tokens]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        return self.tokens.part(int(self.offsets[row]), int(self.offsets[row + 1]))

    @classmethod
    def join(cls, rows: Sequence[Tokens]) -> TokenRows:
        """Return rows as they are, one after the other."""
        tokens = Tokens(
            np.concatenate([np.zeros(0, dtype=np.int32), *(row.ids for row in rows)]),
            np.concatenate([np.zeros(0, dtype=np.bool_), *(row.is_trained for row in rows)]),
            np.concatenate([np.zeros(0, dtype=np.int32), *(row.num_bytes for row in rows)]),
        )
        return cls(tokens, _offsets(lengths_of(rows)))

    @property
    def lengths(self) -> IntArray:
        """[N]: tokens of each row."""
        return np.diff(self.offsets)

    @property
    def reads(self) -> tuple[IntArray, IntArray]:
        """Which tokens are learned: the row of each, ascending, and its place among all tokens, [U] each.

        The first token of a row is not, because there is none before it to read.
        """
        places_U = np.flatnonzero(self.tokens.is_trained)
        rows_U = np.searchsorted(self.offsets, places_U, side="right") - 1
        follows_U = places_U > self.offsets[rows_U]
        return rows_U[follows_U], places_U[follows_U]

    def parts(self, firsts_P: IntArray, lasts_P: IntArray) -> TokenRows:
        """Return P rows that reach from ``firsts_P`` up to ``lasts_P``, places among all tokens; they may overlap."""
        offsets = _offsets(lasts_P - firsts_P)
        places_T = np.repeat(firsts_P - offsets[:-1], np.diff(offsets)) + np.arange(offsets[-1])
        ids, is_trained, num_bytes = self.tokens.ids, self.tokens.is_trained, self.tokens.num_bytes
        return TokenRows(Tokens(ids[places_T], is_trained[places_T], num_bytes[places_T]), offsets)

    def select(self, rows: IntArray) -> TokenRows:
        """Return some rows, in this order."""
        return self.parts(self.offsets[rows], self.offsets[rows + 1])

    def with_added(self, is_chosen_N: BoolArray, ids: Sequence[int], *, at_end: bool, is_trained: bool) -> TokenRows:
        """Return the rows with special tokens put before (or after) those that are chosen."""
        if not is_chosen_N.any():
            return self
        places = np.repeat(self.offsets[1:][is_chosen_N] if at_end else self.offsets[:-1][is_chosen_N], len(ids))
        added = np.tile(np.array(ids, dtype=np.int32), int(is_chosen_N.sum()))
        tokens = Tokens(
            np.insert(self.tokens.ids, places, added),
            np.insert(self.tokens.is_trained, places, is_trained),
            np.insert(self.tokens.num_bytes, places, 0),
        )
        return TokenRows(tokens, _offsets(self.lengths + len(ids) * is_chosen_N))


def _offsets(lengths: IntArray) -> IntArray:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


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
        self._special_ids = frozenset(named | set(tokenizer.all_special_ids))
        self._special = np.array(sorted(self._special_ids), dtype=np.int64)
        self.controls = Controls.of(tokenizer)
        self.end: int | None = tokenizer.eos_token_id
        self._before, self._after = _added(tokenizer)

    @property
    def filler(self) -> int:
        """The token that stands for a row that would have none."""
        candidates = (self.end, self._tokenizer.bos_token_id, self._tokenizer.pad_token_id, 0)
        return int(next(token for token in candidates if token is not None))

    def rows(self, rows: Sequence[TextRow]) -> TokenRows:
        """Tokenise rows of conversations; an answer at the end that the template does not end gets the end token."""
        found: list[TokenRows] = []
        first = 0
        for encoded in self._encode([row.text for row in rows]):
            batch = rows[first : first + len(encoded.texts)]
            first += len(batch)
            tokens = self._tokens(encoded, [spans_without_marks(row.text, row.spans) for row in batch])
            if self.end is not None:
                lacks_end = [row.ends_with_answer and not self._is_ended(encoded, i) for i, row in enumerate(batch)]
                tokens = tokens.with_added(np.array(lacks_end), [self.end], at_end=True, is_trained=True)
            found.append(tokens)
        return _joined(found)

    def prompts(self, texts: Sequence[str]) -> TokenRows:
        """Tokenise texts of which nothing is trained."""
        return _joined([self._tokens(encoded, None) for encoded in self._encode(texts)])

    def documents(self, texts: Sequence[str], *, ended: bool = True) -> TokenRows:
        """Tokenise plain texts, all of which is trained: with what the tokenizer puts before a text, and an end.

        Neither is put where the text has it already.
        """
        found = []
        for encoded in self._encode(texts):
            tokens = self._tokens(encoded, [((0, len(text)),) for text in encoded.texts] if ended else None)
            starts_N, stops_N, ids = tokens.offsets[:-1], tokens.offsets[1:], tokens.tokens.ids
            begins_N = starts_N + len(self._before) <= stops_N
            for place, token in enumerate(self._before):
                begins_N[begins_N] = ids[starts_N[begins_N] + place] == token
            tokens = tokens.with_added(~begins_N, self._before, at_end=False, is_trained=ended)
            if ended and self.end is not None:
                ends_N = stops_N > starts_N
                ends_N[ends_N] = ids[stops_N[ends_N] - 1] == self.end
                tokens = tokens.with_added(~ends_N, [self.end], at_end=True, is_trained=True)
            found.append(tokens)
        return _joined(found)

    def special_after(self, text: str, position: int) -> int | None:
        """Return the first special token that starts at or after a position of a text."""
        (encoded,) = self._encode([text])
        is_special_T = np.isin(encoded.ids, self._special) & (encoded.starts >= position)
        return int(encoded.ids[np.argmax(is_special_T)]) if is_special_T.any() else None

    def _encode(self, texts: Sequence[str]) -> Iterator[_Encoded]:
        """Yield the texts, as they were tokenised, and their tokens, some rows at a time."""
        batch: list[str] = []
        num_characters = 0
        for text in texts:
            batch.append(_encodable(text))
            num_characters += len(text)
            if num_characters >= BATCH_CHARACTERS:
                yield self._encode_batch(batch)
                batch, num_characters = [], 0
        if batch:
            yield self._encode_batch(batch)

    @cached_property
    def _guarded(self) -> GuardedTokenizer:
        assert self.controls is not None, "only texts that look like control tokens are marked"
        return GuardedTokenizer(self._tokenizer, self.controls)

    def _encodings(self, texts: list[str]) -> tuple[list[list[int]], list[Encoding]]:
        """Return the ids of texts without marks, and their encodings."""
        encodings: list[Encoding]
        if is_plain(self._tokenizer):
            encodings = encode_batch(self._tokenizer, texts, add_special_tokens=False, aligned=True)
        else:
            encodings = self._tokenizer(
                texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
            ).encodings
        return [encoding.ids for encoding in encodings], encodings

    def _encode_batch(self, texts: list[str]) -> _Encoded:
        ids_N, encodings = self._encodings([without_marks(text) for text in texts])
        marked = [row for row, text in enumerate(texts) if MARK in text]
        if marked:
            for row, (ids, encoding) in zip(marked, self._guarded.encode([texts[row] for row in marked]), strict=True):
                ids_N[row], encodings[row] = ids, encoding
            texts = [without_marks(text) for text in texts]
        lengths_N = lengths_of(ids_N)
        offsets = _offsets(lengths_N)
        pairs = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        characters_T2 = np.fromiter(pairs, dtype=np.int64, count=2 * int(offsets[-1])).reshape(-1, 2)
        firsts_N = _offsets(lengths_of(texts) + len(_GAP))[:-1]
        base_T = np.repeat(firsts_N, lengths_N)
        return _Encoded(
            texts, flat(ids_N), offsets, firsts_N, characters_T2[:, 0] + base_T, characters_T2[:, 1] + base_T
        )

    def _tokens(self, encoded: _Encoded, spans_N: Sequence[Sequence[Span]] | None) -> TokenRows:
        """Return the tokens, those within the spans of their row's characters trained."""
        starts_T, ends_T = encoded.starts, encoded.ends
        # Some tokenizers leave white space out of a token's characters, and give the bytes of one
        # character the same place: what a token is the first to reach is its own.
        reached_T = np.maximum.accumulate(ends_T) if len(ends_T) else ends_T
        before_T = np.roll(reached_T, 1)
        has_tokens_N = encoded.offsets[1:] > encoded.offsets[:-1]
        before_T[encoded.offsets[:-1][has_tokens_N]] = encoded.firsts[has_tokens_N]
        starts_T = np.where(starts_T == ends_T, np.minimum(starts_T, before_T), starts_T)
        if spans_N is None:
            is_trained_T = np.zeros(len(starts_T), dtype=np.bool_)
        else:
            is_trained_T = _within(encoded, starts_T, spans_N)
        text = _GAP.join(encoded.texts)
        if not text.isascii():
            bytes_C = _bytes_before(text)
            reached_T, before_T = bytes_C[reached_T], bytes_C[before_T]
        num_bytes_T = (reached_T - before_T).astype(np.int32)
        num_bytes_T[np.isin(encoded.ids, self._special)] = 0
        return TokenRows(Tokens(encoded.ids, is_trained_T, num_bytes_T), encoded.offsets)

    def _is_ended(self, encoded: _Encoded, row: int) -> bool:
        """Say whether the last token of a row that is no white space is a special one."""
        text, base = encoded.texts[row], encoded.firsts[row]
        for place in range(int(encoded.offsets[row + 1]) - 1, int(encoded.offsets[row]) - 1, -1):
            if int(encoded.ids[place]) in self._special_ids:
                return True
            if text[encoded.starts[place] - base : encoded.ends[place] - base].strip():
                return False
        return False


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Texts as they were tokenised. Characters are counted through all texts, with a gap of one between two."""

    texts: list[str]
    ids: npt.NDArray[np.int32]
    """[T]"""
    offsets: IntArray
    """[N + 1]: the first token of each text."""
    firsts: IntArray
    """[N]: the first character of each text."""
    starts: IntArray
    """[T]: the first character of each token."""
    ends: IntArray
    """[T]: the character after each token's last one."""


def _joined(parts: Sequence[TokenRows]) -> TokenRows:
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(part.lengths for part in parts)])
    return TokenRows(TokenRows.join([part.tokens for part in parts]).tokens, _offsets(lengths))


def _within(encoded: _Encoded, starts_T: IntArray, spans_N: Sequence[Sequence[Span]]) -> BoolArray:
    """Return [T]: whether a token has a character in a span of its row, or, having none, stands inside of one."""
    num_characters = int(encoded.firsts[-1]) + len(encoded.texts[-1]) + len(_GAP)
    borders_C = np.zeros(num_characters + 1, dtype=np.int64)
    firsts, lasts = [], []
    empty: list[tuple[int, int]] = []
    for row, (base, spans) in enumerate(zip(encoded.firsts.tolist(), spans_N, strict=True)):
        for first, last in spans:
            firsts.append(base + first)
            lasts.append(base + last)
            if first == last:
                empty.append((row, base + first))
    np.add.at(borders_C, np.array(firsts, dtype=np.int64), 1)
    np.add.at(borders_C, np.array(lasts, dtype=np.int64), -1)
    is_within_C = np.cumsum(borders_C) > 0
    before_C = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(is_within_C)])
    has_characters_T = starts_T < encoded.ends
    found: BoolArray = np.where(has_characters_T, before_C[encoded.ends] > before_C[starts_T], is_within_C[starts_T])
    for row, place in empty:  # an answer of no characters, inside of a token
        tokens = slice(int(encoded.offsets[row]), int(encoded.offsets[row + 1]))
        found[tokens] |= (starts_T[tokens] < place) & (encoded.ends[tokens] > place)
    return found


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
