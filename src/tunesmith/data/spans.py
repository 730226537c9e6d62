"""Entities as places in a text: the many ways in which they are written, and how their places are counted.

Whether an end is the last character or the one after it, whether counting begins at 0 or 1, and whether characters,
UTF-16 units or bytes are counted, says no file. What a span's own words (``text``, ``value``) or the borders of
words say over all rows decides.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

from tunesmith.data.schemes import OUTSIDE
from tunesmith.data.tagged import split_words
from tunesmith.types import Guess

Offsets = Literal["exclusive", "inclusive", "from_one", "utf16", "bytes"]
"""How places are counted: characters up to the end, with the last one, with the last one and from 1; or up to the
end in units of UTF-16, or in bytes of UTF-8."""

OFFSETS: tuple[Offsets, ...] = ("exclusive", "inclusive", "from_one", "utf16", "bytes")
"""The first of those that explain as much wins."""
FLAG = "data.span_offsets"

_START_KEYS = ("start", "start_offset", "begin", "start_char", "offset_start", "start_idx", "start_pos", "startPos",
               "beginOffset", "begin_offset", "startOffset", "char_start", "from", "b")  # fmt: skip
_END_KEYS = ("end", "end_offset", "stop", "end_char", "offset_end", "end_idx", "end_pos", "endPos", "endOffset",
             "char_end", "to", "e")  # fmt: skip
_PLACE_KEYS = ("span", "offset", "offsets", "indices", "index", "position", "pos", "location", "loc", "entity_index",
               "range")  # fmt: skip
_LENGTH_KEYS = ("length", "len")
_LABEL_KEYS = ("label", "labels", "type", "entity_type", "label_type", "tag", "entity_group", "category", "class",
               "displayName", "entity", "name")  # fmt: skip
_SURFACE_KEYS = ("text", "value", "surface", "word", "words", "mention", "surface_form", "span_text", "entity_text",
                 "entity", "name")  # fmt: skip
_LIST_KEYS = ("entities", "spans", "ents", "annotations", "annotation", "result", "results", "labels", "label",
              "predictions", "value")  # fmt: skip
_TEXT_KEYS = ("text", "sentence", "content", "raw_text", "raw")
_OTHER_MARKS = frozenset({"relation", "choices", "textarea", "rating"})
"""What annotation tools list beside spans."""
_ID = re.compile(r"[A-Z]\d+")


@dataclass(frozen=True, slots=True)
class Span:
    """An entity: characters ``start`` up to, not including, ``end``."""

    start: int
    end: int
    label: str
    surface: str = ""
    """Its words as the file has them; empty where it has not."""


# ---- cells to spans ------------------------------------------------------------------------------


def parse_spans(cell: Any) -> list[Span] | None:
    """Return the spans of a cell as they are written; None for anything else. The cell may be JSON text.

    Known are lists of objects with start, end and label (by many names, the places perhaps in a list of their own),
    of ``[start, end, label]`` in any order, of ``[id, label, [[start, end]]]``; objects that hold such a list;
    ``{label: {words: [[start, end]]}}`` and ``{label: [[start, end]]}``. A missing cell has no spans.
    """
    if cell is None or cell == "":
        return []
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    try:
        found = list(_spans(cell))
    except (_NoSpanError, RecursionError):
        return None
    return list(dict.fromkeys(found))


class _NoSpanError(Exception):
    """What stands there is no span."""


def _spans(cell: Any) -> Iterator[Span]:
    if isinstance(cell, list):
        for item in cell:
            yield from _item(item)
    elif isinstance(cell, Mapping):
        held = next((key for key in _LIST_KEYS if isinstance(cell.get(key), list)), None)
        if held is not None and not _places(cell[held]):
            yield from _spans(cell[held])
            return
        for label, places in cell.items():
            yield from _of_label(str(label), places)
    else:
        raise _NoSpanError


def _of_label(label: str, places: Any) -> Iterator[Span]:
    """Yield the spans of one label: places, or places by the words that stand there."""
    if not label.strip():
        raise _NoSpanError
    by_words = places if isinstance(places, Mapping) else {"": places}
    for words, listed in by_words.items():
        found = _places(listed)
        if found is None or not (found or isinstance(listed, list)):
            raise _NoSpanError
        for start, end in found:
            yield Span(start, end, label.strip(), str(words))


def _places(value: Any) -> list[tuple[int, int]] | None:
    """Return places written as ``[start, end]`` or a list of these; None for anything else."""
    if isinstance(value, Mapping):
        pair = (_first(value, _START_KEYS), _first(value, _END_KEYS))
        return [pair] if all(map(_is_place, pair)) else None
    if not isinstance(value, (list, tuple)):
        return None
    if len(value) == 2 and all(map(_is_place, value)):
        return [(value[0], value[1])]
    found = [_places(item) for item in value if not _is_place(item)]
    if len(found) < len(value) or any(one is None or len(one) != 1 for one in found):
        return None
    return [one[0] for one in found if one]


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _item(item: Any) -> Iterator[Span]:
    if isinstance(item, Mapping):
        yield from _object(item)
    elif isinstance(item, (list, tuple)):
        yield _listed(item)
    else:
        raise _NoSpanError


def _object(item: Mapping[str, Any]) -> Iterator[Span]:
    is_other = item.get("type") in _OTHER_MARKS and ("from_name" in item or "from_id" in item)
    if is_other or item.get("was_cancelled") is True:
        return
    inner = item.get("value")
    if isinstance(inner, Mapping):  # an exported annotation: the span stands in its value
        yield from _object(inner)
        return
    if isinstance(item.get("result"), list):  # all that one person has marked
        yield from _spans(item["result"])
        return
    start, end = _start_and_end(item)
    label = next((name for key in _LABEL_KEYS if (name := _label(item.get(key)))), "")
    if not label:
        raise _NoSpanError
    surface = next((item[key] for key in _SURFACE_KEYS if isinstance(item.get(key), str) and item[key] != label), "")
    yield Span(start, end, label, surface)


def _start_and_end(item: Mapping[str, Any]) -> tuple[int, int]:
    start, end = _first(item, _START_KEYS), _first(item, _END_KEYS)
    if _is_place(start) and _is_place(end):
        return start, end
    if not _is_place(start):
        start = item.get("offset")
    length = _first(item, _LENGTH_KEYS)
    if _is_place(start) and _is_place(length):
        return start, start + length
    for key in _PLACE_KEYS:
        places = _places(item.get(key)) if key in item else None
        if places:
            return _hull(places)
    raise _NoSpanError


def _hull(places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the place of a span written in pieces: those of one line after the other are one span."""
    if any(after[0] - before[1] > 1 for before, after in pairwise(places)):
        raise _NoSpanError
    return places[0][0], places[-1][1]


def _label(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value.strip() if isinstance(value, str) else ""


def _listed(item: Sequence[Any]) -> Span:
    """Return a span written as a list: its places, its label, and perhaps an id before it or words after it."""
    numbers = [value for value in item if _is_place(value)]
    words = [value for value in item if isinstance(value, str) and value.strip()]
    nested = [value for value in item if isinstance(value, (list, tuple))]
    if len(nested) == 1 and not numbers:
        places = _places(nested[0])
        if not places or not words:
            raise _NoSpanError
        return Span(*_hull(places), words[-1].strip())
    if len(numbers) != 2 or len(numbers) + len(words) != len(item) or not words or len(words) > 2:
        raise _NoSpanError
    if len(words) == 1:
        return Span(numbers[0], numbers[1], words[0].strip())
    # Of two words the label is the one right after the places; the other is an id, or what stands there.
    after = [value for value in item[item.index(numbers[1]) + 1 :] if isinstance(value, str)]
    label = after[0] if after else words[-1]
    surface = next((word for word in words if word is not label and (after or not _ID.fullmatch(word))), "")
    return Span(numbers[0], numbers[1], label.strip(), surface)


def text_of(cell: Any) -> str:
    """Return the text of a cell that may be an object around it, as annotation tools write it."""
    if isinstance(cell, str) and cell.startswith("{"):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        if isinstance(value, dict):
            named = _first(value, _TEXT_KEYS)
            texts = [item for item in value.values() if isinstance(item, str)]
            if isinstance(named, str):
                return named
            if len(texts) == 1:
                return texts[0]
    return "" if cell is None else str(cell)


# ---- how places are counted ----------------------------------------------------------------------


def find_offsets(
    rows: Iterable[tuple[str, Sequence[Span] | None]], given: Offsets | None = None
) -> tuple[Offsets, Guess | None]:
    """Return how places are counted: as explains most rows. The guess is None where nothing had to be guessed."""
    explained: Counter[Offsets] = Counter()
    num_rows = 0
    for text, spans in rows:
        if not spans:
            continue
        num_rows += 1
        for offsets in OFFSETS:
            placed = place(text, spans, offsets)
            explained[offsets] += all(_is_sensible(text, span) for span in placed)
    if not num_rows:
        return given or "exclusive", None
    chosen: Offsets = max(OFFSETS, key=lambda offsets: explained[offsets]) if given is None else given
    others: Counter[str] = Counter({name: explained[name] for name in OFFSETS if name != chosen})
    return chosen, Guess("offsets", chosen, explained[chosen], tuple(others.most_common()), FLAG)


def place(text: str, spans: Sequence[Span], offsets: Offsets) -> list[Span]:
    """Return the spans with places as Python counts them."""
    if offsets == "exclusive":
        return list(spans)
    if offsets == "inclusive":
        return [Span(span.start, span.end + 1, span.label, span.surface) for span in spans]
    if offsets == "from_one":
        return [Span(span.start - 1, span.end, span.label, span.surface) for span in spans]
    if text.isascii() or (offsets == "utf16" and max(text, default="") < "\U00010000"):
        return list(spans)
    width: Callable[[str], int] = _utf16_width if offsets == "utf16" else _utf8_width
    index = {units: number for number, units in enumerate(accumulate(map(width, text), initial=0))}
    # A place inside of a character is none.
    return [Span(index.get(span.start, -1), index.get(span.end, -1), span.label, span.surface) for span in spans]


def _utf16_width(letter: str) -> int:
    return 2 if letter > "\uffff" else 1


def _utf8_width(letter: str) -> int:
    return len(letter.encode("utf-8", "surrogatepass"))


def covers_text(text: str, span: Span) -> bool:
    """Say whether a span lies within a text and covers more than white space."""
    return 0 <= span.start < span.end <= len(text) and bool(text[span.start : span.end].strip())


def _is_sensible(text: str, span: Span) -> bool:
    """Say whether a span covers its own words, or, where it does not say which, whole words of the text."""
    if not 0 <= span.start < span.end <= len(text):
        return False
    covered = text[span.start : span.end]
    if span.surface:
        return covered == span.surface or " ".join(covered.split()) == " ".join(span.surface.split())
    if covered != covered.strip():
        return False
    return not (_is_inside_word(text, span.start) or _is_inside_word(text, span.end))


_SPACED_LETTER = re.compile(r"[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


def _is_inside_word(text: str, place: int) -> bool:
    """Say whether letters of a writing with spaces stand on both sides of a place."""
    if not 0 < place < len(text):
        return False
    return all(_SPACED_LETTER.match(letter) is not None for letter in text[place - 1 : place + 1])


# ---- spans to tags -------------------------------------------------------------------------------


def tag_spans(text: str, spans: Sequence[Span]) -> tuple[list[str], list[int], list[str] | None]:
    """Cut a text into words, also at the borders of its spans; return tokens, starts and BIO tags.

    The tags are None where spans overlap, are empty or lie outside of the text.
    """
    position = 0
    pieces: list[tuple[int, int, str | None]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if span.start < position or not covers_text(text, span):
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
