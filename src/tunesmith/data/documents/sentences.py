"""Where sentences and words end, in scripts with spaces and in those without."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunesmith.data.documents.lines import CJK

Span = tuple[int, int]
"""Characters from the first to before the last."""

_CLOSING = "\"'”’」』）)\\]】》"
_END = re.compile(rf"[.!?]+[{_CLOSING}]*(?=\s|$)|[。！？；…｡]+[{_CLOSING}]*")
_ABBREVIATIONS = frozenset(
    (
        *(
            "mr",
            "mrs",
            "ms",
            "dr",
            "prof",
            "st",
            "sr",
            "jr",
            "vs",
            "etc",
            "e.g",
            "i.e",
            "cf",
            "fig",
            "figs",
            "eq",
            "eqs",
        ),
        *("no", "nos", "vol", "pp", "p", "ed", "eds", "al", "inc", "ltd", "co", "corp", "dept", "est", "approx", "ca"),
        *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
        *("bzw", "z.b", "d.h", "u.a", "nr", "abb", "art", "abs"),
    )
)
"""After which a full stop ends no sentence, mostly."""
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]+$")
_WORD = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


def sentences_of(text: str) -> Iterator[Span]:
    """Yield the places of the sentences of a text, without the white space between them; together they hold all else.

    A full stop after an abbreviation or an initial ends none, nor does one that a small letter follows.
    """
    start = 0
    for found in _END.finditer(text):
        if found[0].startswith(".") and not _ends(text, found):
            continue
        yield from _trimmed(text, start, found.end())
        start = found.end()
    yield from _trimmed(text, start, len(text))


def _ends(text: str, found: re.Match[str]) -> bool:
    following = text[found.end() : found.end() + 3].lstrip()
    if following[:1].islower():
        return False
    word = _LAST_WORD.search(text, max(0, found.start() - 20), found.start())
    if word is None or len(found[0]) > 1:
        return True
    last = word[0].lower()
    return last not in _ABBREVIATIONS and not (len(last) == 1 and last.isalpha() and word[0].isupper())


def lines_of(text: str) -> Iterator[Span]:
    """Yield the places of the lines of a text that hold anything."""
    start = 0
    for line in text.splitlines(keepends=True):
        yield from _trimmed(text, start, start + len(line))
        start += len(line)


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    part = text[start:end]
    left, right = len(part) - len(part.lstrip()), len(part.rstrip())
    if left < right:
        yield start + left, start + right


def word_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where the words of ``text[start:end]`` end; a Chinese or Japanese character is one."""
    for found in _WORD.finditer(text, start, end):
        yield found.end()


def count_words(text: str) -> int:
    """Return the number of words; a Chinese or Japanese character counts as one."""
    return sum(1 for _ in _WORD.finditer(text))
