"""Lines as a page has them made paragraphs again: words cut at line ends, headers and footers.

Pages and hard-wrapped texts say by their form alone where a paragraph ends.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of scripts that write no spaces between words."""

EDGE_LINES = 3
"""Lines at the top and at the bottom of a page that may be a header or a footer."""
REPEATED = 0.4
"""Share of the pages on which a line at the edge stands that is a header: left and right pages may have their own."""
FEWEST_PAGES = 3
SHORT = 0.6
"""Share of a full line below which a line is the last of its paragraph."""

_CUT_WORD = re.compile(r"([^\W\d_]{2,})-$")
_GOES_ON = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?:。！？；：…][\"'”’」』）)\]]*$")
_ITEM = re.compile(r"(?:[•▪◦‣·*–-]|\(?\d{1,3}[.)]|[（(]?[一二三四五六七八九十]+[、.）)])\s*\S")
_WIDE = re.compile(f"[{CJK}\u3000-\u303f\uff00-\uffef]")
_SOFT_HYPHEN = "\u00ad"


def without_repeated(pages: Sequence[Sequence[str]]) -> tuple[list[list[str]], int]:
    """Return the lines of each page without those that stand at its edge on many pages, and how many went.

    Numbers in them do not count: "Page 3 of 10" is one line, whatever the page.
    """
    if len(pages) < FEWEST_PAGES:
        return [list(page) for page in pages], 0
    counts: Counter[str] = Counter()
    for page in pages:
        filled = [line for line in page if line.strip()]
        counts.update({_key(line) for line in (*filled[:EDGE_LINES], *filled[-EDGE_LINES:])})
    enough = max(FEWEST_PAGES, REPEATED * len(pages))
    repeated = {key for key, number in counts.items() if number >= enough}
    kept = [_trimmed(page, repeated) for page in pages]
    return kept, sum(
        sum(bool(line.strip()) for line in before) - sum(bool(line.strip()) for line in after)
        for before, after in zip(pages, kept, strict=True)
    )


def _key(line: str) -> str:
    return re.sub(r"\d+", "#", " ".join(line.split()).casefold())


def _trimmed(page: Sequence[str], repeated: Collection[str]) -> list[str]:
    """Return a page without the repeated lines at its top and bottom, from the edge inwards."""
    first, last = 0, len(page)
    for end in (False, True):
        for _ in range(EDGE_LINES):
            while first < last and not page[last - 1 if end else first].strip():
                first, last = (first, last - 1) if end else (first + 1, last)
            if first == last or _key(page[last - 1 if end else first]) not in repeated:
                break
            first, last = (first, last - 1) if end else (first + 1, last)
    return list(page[first:last])


def paragraphs_of(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the lines of each paragraph: an empty or a short line ends one, an item of a list begins one."""
    lengths = sorted(len(line.strip()) for line in lines if line.strip())
    full = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    taken: list[str] = []
    for line in lines:
        text = line.strip()
        if taken and (not text or _ITEM.match(text)):
            yield taken
            taken = []
        if not text:
            continue
        taken.append(text)
        if len(text) < SHORT * full and not text.endswith("-"):
            yield taken
            taken = []
    if taken:
        yield taken


def is_unfinished(text: str) -> bool:
    """Say whether a paragraph at the end of a page goes on on the next one."""
    return not _SENTENCE_END.search(text)


def goes_on(text: str) -> bool:
    """Say whether a paragraph at the top of a page may be the rest of one: not an item, not a new sentence."""
    return not _ITEM.match(text) and (text[:1].islower() or bool(re.match(f"[{CJK}]", text)))


def joined(lines: Sequence[str], words: Collection[str] = frozenset()) -> tuple[str, int]:
    """Return lines as one, and how many words were mended.

    A word that a hyphen cuts at the end of a line is put together, unless the document writes it with the hyphen
    elsewhere (``words``, in small letters). Between Chinese or Japanese characters there is no space.
    """
    text, num_mended = "", 0
    for line in lines:
        if text.endswith(_SOFT_HYPHEN):
            text, num_mended = text[:-1] + line, num_mended + 1
            continue
        cut, rest = _CUT_WORD.search(text), _GOES_ON.match(line)
        if cut is not None and rest is not None and line[:1].islower():
            if f"{cut[1]}-{rest[0]}".lower() in words:
                text += line
            else:
                text, num_mended = text[:-1] + line, num_mended + 1
        elif _WIDE.match(text[-1:]) and _WIDE.match(line):
            text += line
        else:
            text += f" {line}" if text else line
    return text.replace(_SOFT_HYPHEN, ""), num_mended


def hyphenated_words(lines: Sequence[str]) -> frozenset[str]:
    """Return the words that are written with a hyphen inside a line, in small letters."""
    return frozenset(word.lower() for line in lines for word in re.findall(r"[^\W\d_]{2,}-[^\W\d_]+", line))
