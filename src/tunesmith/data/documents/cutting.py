"""Blocks of a document cut into passages of a bounded length, at the ends of sentences.

A passage is a stretch of the document's text, which is its blocks with the gaps between them: ``text[start:end]``,
whatever the overlap. A heading begins a passage, and none goes on beyond the next one. Only a sentence (or a line of a
table) longer than a passage is cut inside, between words.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tunesmith.data.documents.content import Block
from tunesmith.data.documents.sentences import Span, count_words, lines_of, sentences_of, word_ends

MAX_CHARACTERS = 64
"""Of a word or a token, where a word longer than a passage is cut."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long passages are."""

    length: int = 200
    """Most words, or tokens, of a passage."""
    overlap: int = 40
    """Most words, or tokens, that a passage repeats of the end of the one before: whole sentences only."""
    measure: Callable[[str], int] = count_words
    """From a text to its words, or tokens."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document."""

    text: str
    start: int
    """Characters of the document's text before it."""
    headings: tuple[str, ...]
    """Those that it stands under, the outermost first."""
    page: int | None
    """On which it begins, from 1; None where the document has none."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence, a line or a heading."""

    text: str
    gap: str
    """What stands between it and the piece before."""
    start: int
    page: int | None
    size: int
    is_heading: bool = False


def passages_of(blocks: Iterable[Block], lengths: Lengths) -> Iterator[Passage]:
    """Yield the passages of a document; no more of it than a block and a passage is held."""
    place, rest = 0, ""  # the white space after the last piece
    path: list[tuple[int, str]] = []
    waiting: list[_Piece] = []
    for block in blocks:
        gap = block.gap if place else ""
        begins = place + len(gap)
        if block.level:
            if any(not piece.is_heading for piece in waiting):
                yield from _cut(waiting, lengths, path, to_the_end=True)
            path = [*(one for one in path if one[0] < block.level), (block.level, block.text)]
        before, rest = rest + gap, rest + gap + block.text
        for piece in _pieces(block, begins, before, lengths):
            waiting.append(piece)
            rest = block.text[piece.start - begins + len(piece.text) :]
            if sum(one.size for one in waiting) > lengths.length:
                yield from _cut(waiting, lengths, path, to_the_end=False)
        place = begins + len(block.text)
    yield from _cut(waiting, lengths, path, to_the_end=True)


def _pieces(block: Block, place: int, gap: str, lengths: Lengths) -> Iterator[_Piece]:
    """Yield the pieces of a block that begins at ``place`` of the document."""
    before: int | None = None
    for start, end in _spans(block, lengths):
        between = gap + block.text[:start] if before is None else block.text[before:start]
        yield _Piece(
            block.text[start:end],
            between,
            place + start,
            _page_at(block, start),
            lengths.measure(between + block.text[start:end]),
            bool(block.level),
        )
        before = end


def _spans(block: Block, lengths: Lengths) -> Iterator[Span]:
    """Yield the places of lines or sentences; what is longer than a passage in parts: sentences, then words."""
    text = block.text
    for start, end in lines_of(text) if block.is_lines or block.level else sentences_of(text):
        if lengths.measure(text[start:end]) <= lengths.length:
            yield start, end
            continue
        for first, last in sentences_of(text[start:end]):
            if lengths.measure(text[start + first : start + last]) <= lengths.length:
                yield start + first, start + last
            else:
                yield from _parts(text, start + first, start + last, lengths)


def _parts(text: str, start: int, end: int, lengths: Lengths) -> Iterator[Span]:
    """Yield the longest stretches of ``text[start:end]`` that fit, cut between words, inside one where it must be."""
    while start < end:
        found = _last_fitting(text, start, list(islice(word_ends(text, start, end), lengths.length)), lengths)
        if found is None:
            inside = range(start + 1, min(end, start + MAX_CHARACTERS * lengths.length) + 1)
            found = _last_fitting(text, start, inside, lengths) or start + 1
        yield start, found
        start = found + len(text[found:end]) - len(text[found:end].lstrip())


def _last_fitting(text: str, start: int, ends: Sequence[int], lengths: Lengths) -> int | None:
    """Return the last of ``ends`` up to which the text is no longer than a passage; None where it is at none."""
    place = bisect_right(ends, lengths.length, key=lambda end: lengths.measure(text[start:end]))
    return ends[place - 1] if place else None


def _page_at(block: Block, place: int) -> int | None:
    if not block.pages:
        return None
    return block.pages[bisect_right(block.pages, place, key=lambda one: one[0]) - 1][1]


def _cut(
    waiting: list[_Piece], lengths: Lengths, path: list[tuple[int, str]], *, to_the_end: bool
) -> Iterator[Passage]:
    """Yield what ``waiting`` is enough for and take it away, but for what the next passage repeats of it.

    Sizes of pieces nearly add up to that of the text; the text decides.
    """
    while waiting:
        number = len(waiting)
        while number > 1 and lengths.measure(_text_of(waiting[:number])) > lengths.length:
            number -= 1
        if number == len(waiting) and not to_the_end:
            return
        taken, rest = waiting[:number], waiting[number:]
        yield Passage(_text_of(taken), taken[0].start, tuple(text for _, text in path), taken[0].page)
        waiting[:] = [*_repeated(taken, rest[0], lengths), *rest] if rest else []


def _repeated(taken: list[_Piece], following: _Piece, lengths: Lengths) -> list[_Piece]:
    """Return the last sentences of a passage that the next one begins with: not all of it, and no heading."""
    first, size = len(taken), following.size
    most = min(lengths.overlap + following.size, lengths.length)
    while first > 1 and not taken[first - 1].is_heading and size + taken[first - 1].size <= most:
        first -= 1
        size += taken[first].size
    return taken[first:]


def _text_of(pieces: Sequence[_Piece]) -> str:
    return pieces[0].text + "".join(piece.gap + piece.text for piece in pieces[1:])
