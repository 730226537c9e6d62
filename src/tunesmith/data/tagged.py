"""Tagged sentences: tokens and their places in a text, character spans, and the schemes in which tags are written.

Whatever the user's tags are written in becomes BIO (Tjong Kim Sang and Veenstra 1999): ``B-X`` opens an
entity of type X, ``I-X`` continues it, ``O`` is outside. Tags of another kind (parts of speech) stay as they are.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.data import cells

Scheme = Literal["BIO", "IOB1", "BIOES", "IO", "none"]
"""BIOES stands for BILOU and BMES too, which name the same things by other letters; IO has no prefixes."""

OUTSIDE = "O"
_UNSPACED = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff"
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")
_PREFIXED = re.compile(r"([BIMELSUW])-(.+)", re.DOTALL)
_ROLE_OF_PREFIX = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}

_START_KEYS = ("start", "start_offset", "begin", "start_char", "offset_start")
_END_KEYS = ("end", "end_offset", "stop", "end_char", "offset_end")
_LABEL_KEYS = ("label", "labels", "type", "entity", "entity_type", "tag", "entity_group")


# ---- tokens and texts ----------------------------------------------------------------------------


def join_tokens(tokens: Sequence[str]) -> tuple[str, list[int]]:
    """Return a text of the tokens, and where in it each starts: spaces between them, none beside Chinese characters."""
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    last = ""
    for token in tokens:
        if last and token and not (_IS_UNSPACED.match(last[-1]) or _IS_UNSPACED.match(token[0])):
            pieces.append(" ")
            length += 1
        starts.append(length)
        pieces.append(token)
        length += len(token)
        last = token or last
    return "".join(pieces), starts


def split_words(text: str) -> tuple[list[str], list[int]]:
    """Cut a text into words, punctuation marks and Chinese characters, with the start of each."""
    found = list(_WORDS.finditer(text))
    return [match.group() for match in found], [match.start() for match in found]


def split_spaces(text: str) -> tuple[list[str], list[int]]:
    """Cut a text at its white space; where most of a piece is written without spaces, into its characters."""
    tokens: list[str] = []
    starts: list[int] = []
    for match in re.finditer(r"\S+", text):
        piece = match.group()
        if 2 * len(_IS_UNSPACED.findall(piece)) > len(piece):
            tokens += piece
            starts += range(match.start(), match.end())
        else:
            tokens.append(piece)
            starts.append(match.start())
    return tokens, starts


def split_characters(text: str) -> tuple[list[str], list[int]]:
    """Cut a text into its characters, white space left out."""
    starts = [index for index, letter in enumerate(text) if not letter.isspace()]
    return [text[start] for start in starts], starts


# ---- character spans -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """An entity: characters ``start`` up to, not including, ``end``."""

    start: int
    end: int
    label: str


def parse_spans(cell: Any) -> list[Span] | None:
    """Return the spans of a cell: objects with start, end and label, or lists of these three; None for anything else.

    The cell may be JSON text. A missing cell has no spans.
    """
    if cell is None or cell == "":
        return []
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    if not isinstance(cell, list):
        return None
    spans = [_span(item) for item in cell]
    return None if any(span is None for span in spans) else [span for span in spans if span is not None]


def _span(item: Any) -> Span | None:
    if isinstance(item, Mapping):
        start, end, label = (
            next((item[key] for key in keys if key in item), None) for keys in (_START_KEYS, _END_KEYS, _LABEL_KEYS)
        )
    elif isinstance(item, (list, tuple)) and len(item) == 3:
        start, end, label = item
    else:
        return None
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    numbers = [value for value in (start, end) if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) != 2 or not isinstance(label, str) or not label.strip():
        return None
    return Span(numbers[0], numbers[1], label.strip())


def tag_spans(text: str, spans: Sequence[Span]) -> tuple[list[str], list[int], list[str] | None]:
    """Cut a text into words, also at the borders of its spans; return tokens, starts and BIO tags.

    The tags are None where spans overlap, are empty or lie outside of the text.
    """
    position = 0
    pieces: list[tuple[int, int, str | None]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if not (position <= span.start < span.end <= len(text) and text[span.start : span.end].strip()):
            return *split_words(text), None
        pieces += [(position, span.start, None), (span.start, span.end, span.label)]
        position = span.end
    tokens: list[str] = []
    starts: list[int] = []
    tags: list[str] = []
    for start, end, label in [*pieces, (position, len(text), None)]:
        words, places = split_words(text[start:end])
        tokens += words
        starts += [start + place for place in places]
        tags += [OUTSIDE if label is None else f"{'I' if index else 'B'}-{label}" for index in range(len(words))]
    return tokens, starts, tags


# ---- schemes -------------------------------------------------------------------------------------


def split_tag(tag: str) -> tuple[str, str]:
    """Return role (B, I, E, S, or O) and type of a tag; a tag without a prefix is a type that plays the role I."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    match = _PREFIXED.fullmatch(tag)
    return (_ROLE_OF_PREFIX[match.group(1)], match.group(2)) if match else ("I", tag)


@dataclass
class TagForm:
    """In which scheme a column of tags is written: learned from all rows, then applied."""

    counts: Counter[str] = field(default_factory=Counter)
    num_orphans: int = 0
    """``I-X`` that follows no entity of type X: right in IOB1, wrong in BIO."""
    num_openings: int = 0
    """``B-X`` that follows no entity of type X: right in BIO, not used in IOB1."""

    def learn(self, rows: Iterable[Sequence[str] | None]) -> None:
        """Look at more rows."""
        for tags in rows:
            before = ""
            for tag in tags or ():
                self.counts[tag] += 1
                role, kind = split_tag(tag)
                self.num_orphans += role == "I" and kind != before
                self.num_openings += role == "B" and kind != before
                before = kind

    @property
    def scheme(self) -> Scheme:
        """The scheme that the tags seen are written in."""
        names = {tag: count for tag, count in self.counts.items() if tag not in (OUTSIDE, "")}
        total = sum(names.values())
        prefixes = {tag[0] for tag in names if _PREFIXED.fullmatch(tag)}
        num_prefixed = sum(count for tag, count in names.items() if _PREFIXED.fullmatch(tag))
        if not names:
            return "BIO"
        if num_prefixed < 0.9 * total:
            has_outside = bool(self.counts[OUTSIDE]) and self.counts[OUTSIDE] >= max(names.values())
            return "IO" if has_outside and not num_prefixed else "none"
        if prefixes - {"B", "I"}:
            return "BIOES"
        return "IOB1" if self.num_orphans and not self.num_openings else "BIO"

    def read(self, tags: Sequence[str]) -> list[str] | None:
        """Return the row's tags as BIO (or as they are, where there is no scheme); None where they do not fit."""
        scheme = self.scheme
        if not all(tags):
            return None
        if scheme == "none":
            return list(tags)
        if scheme != "IO" and any(tag != OUTSIDE and not _PREFIXED.fullmatch(tag) for tag in tags):
            return None
        parts = [split_tag(tag) for tag in tags]
        if scheme == "BIOES":
            return _from_bioes(parts)
        found: list[str] = []
        before = ""
        for role, kind in parts:
            if scheme == "BIO" and role == "I" and kind != before:
                return None
            opens = role == "B" or kind != before
            found.append(OUTSIDE if role == OUTSIDE else f"{'B' if opens else 'I'}-{kind}")
            before = kind
        return found


def _from_bioes(parts: Sequence[tuple[str, str]]) -> list[str] | None:
    found: list[str] = []
    inside = ""
    for role, kind in parts:
        continues = role in ("I", "E")
        if continues != bool(inside) or (continues and kind != inside):
            return None
        found.append(OUTSIDE if role == OUTSIDE else f"{'I' if continues else 'B'}-{kind}")
        inside = kind if role in ("B", "I") else ""
    return None if inside else found


# ---- cells ---------------------------------------------------------------------------------------


def as_strings(cell: Any) -> list[str] | None:
    """Return a cell of tokens or tags as a list: a list, one written as text, or words with spaces between."""
    if cell is None:
        return None
    if isinstance(cell, str):
        parsed = cells.parse_list(cell)
        cell = cell.split() if parsed is None else parsed
    return ["" if item is None else str(item) for item in cell]


def types_of(tags: Sequence[str] | None) -> list[str] | None:
    """Return the entity types (or other tags) that occur in a row, each once, sorted."""
    if tags is None:
        return None
    return sorted({tag[2:] if tag[:2] in ("B-", "I-") else tag for tag in tags if tag != OUTSIDE})
