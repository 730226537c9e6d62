"""Where the answers to a question stand in its context, from all the ways in which tables and files write that."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.cells import parse_list
from tunesmith.data.forms import plain_text

_TEXTS = ("text", "texts", "answer", "answer_text", "answers", "value")
_STARTS = ("answer_start", "answer_starts", "start", "starts", "begin")
_ARRAY = re.compile(r"array\((\[.*?\])\s*(?:,\s*dtype=\w+)?\)", re.DOTALL)
"""How pandas writes an array within a cell of a CSV file."""
MAX_PLACES = 20
"""Places of one answer that are kept, where it stands at many."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A true answer as it is written: its words and, where it is known, the character at which it begins."""

    text: str
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` up to, not including, ``end`` of a context."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Placed:
    """What was found of one row's answers."""

    spans: tuple[Span, ...]
    """Each once, in the order given; of an answer without a place that stands at several, all of these."""
    num_absent: int = 0
    """Answers that are not in the context."""
    was_moved: bool = False
    """Whether an answer does not stand where it is said to, but elsewhere."""
    is_doubtful: bool = False
    """Whether an answer without a place stands at several."""
    was_mended: bool = False
    """Whether an answer is in the context but for letter case or white space."""


# ---- cells to answers ----------------------------------------------------------------------------


def read_answers(cell: Any, starts: Any = None) -> list[Answer] | None:
    """Return the answers of a cell, with the places that another cell may hold; None for what cannot be read.

    Known are a text; a list of texts; objects of ``text`` and ``answer_start``, a list of them, or one of lists (as the
    ``datasets`` library has them); all of these also as JSON or as Python writes them. An empty cell is no answer.
    """
    value = _decoded(cell)
    found = _places_of(_decoded(starts))
    try:
        answers = _answers(value)
    except _NoAnswerError:
        return None
    if found is None:
        return None
    if not found:
        return answers
    if len(found) != len(answers):
        return None
    return [Answer(answer.text, start) for answer, start in zip(answers, found, strict=True)]


class _NoAnswerError(Exception):
    """What stands there is no answer."""


def _answers(value: Any) -> list[Answer]:
    if value is None or value == "" or value != value:  # noqa: PLR0124 (NaN)
        return []
    if isinstance(value, Mapping):
        return _of_object(value)
    if isinstance(value, (list, tuple)):
        return [answer for item in value for answer in _answers(item)]
    text = plain_text(value)
    return [Answer(text)] if text.strip() else []


def _of_object(value: Mapping[str, Any]) -> list[Answer]:
    """Return the answers of an object: one, or one for each item of its lists."""
    name = next((name for name in _TEXTS if name in value), None)
    if name is None:
        raise _NoAnswerError
    texts = value[name]
    starts = _places_of(next((value[name] for name in _STARTS if name in value), None))
    texts = list(texts) if isinstance(texts, (list, tuple)) else [] if texts is None else [texts]
    if starts is None or not all(isinstance(text, (str, int, float)) for text in texts):
        raise _NoAnswerError
    if starts and len(starts) != len(texts):
        raise _NoAnswerError
    places = starts or [None] * len(texts)
    found = [Answer(plain_text(text), start) for text, start in zip(texts, places, strict=True)]
    return [answer for answer in found if answer.text.strip()]


def _places_of(value: Any) -> list[int | None] | None:
    """Return the places that a value lists, -1 as none; an empty list where there are none, None for anything else."""
    if value is None or value == "" or value != value:  # noqa: PLR0124 (NaN)
        return []
    found: list[int | None] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        try:
            number = float(item)
        except (TypeError, ValueError):
            return None
        if not number.is_integer():
            return None
        found.append(int(number) if number >= 0 else None)
    return found


def _decoded(cell: Any) -> Any:
    """Return what a text says that is JSON, or a list or object as Python or pandas writes it; else the cell itself."""
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    plain = _ARRAY.sub(r"\1", cell)
    try:
        return json.loads(plain)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(plain.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        listed = parse_list(cell)
        return cell if listed is None else listed
    return value if isinstance(value, (dict, list)) else cell


# ---- answers to places ---------------------------------------------------------------------------


def place_answers(context: str, answers: Sequence[Answer]) -> Placed:
    """Find the answers in their context.

    Where one is not where it is said to be, the nearest place counts at which it stands; without a place, all of them.
    """
    spans: dict[Span, None] = {}
    num_absent, was_moved, is_doubtful, was_mended = 0, False, False, False
    for answer in answers:
        found, is_exact = _places_in(context, answer)
        if not found:
            num_absent += 1
            continue
        if answer.start is not None:
            found = [min(found, key=lambda span: abs(span.start - (answer.start or 0)))]
            was_moved |= found[0].start != answer.start
        is_doubtful |= len(found) > 1
        was_mended |= not is_exact
        spans |= dict.fromkeys(_trimmed(context, span) for span in found[:MAX_PLACES])
    return Placed(tuple(spans), num_absent, was_moved, is_doubtful, was_mended)


def _places_in(context: str, answer: Answer) -> tuple[list[Span], bool]:
    """Return where an answer stands, and whether it does so letter by letter: where it is said to, or everywhere."""
    text, start = answer.text, answer.start
    if start is not None and context.startswith(text, start):
        return [Span(start, start + len(text))], True
    if start is not None and text != text.lstrip():
        start += len(text) - len(text.lstrip())
    text = text.strip()
    exact = [Span(found.start(), found.end()) for found in re.finditer(re.escape(text), context)]
    if exact:
        # 19 stands in 1990, too, but where there are whole words, these are meant.
        return [span for span in exact if _is_whole(context, span)] or exact, True
    words = r"\s+".join(map(re.escape, text.split()))
    return [Span(found.start(), found.end()) for found in re.finditer(words, context, re.IGNORECASE)], False


def _trimmed(context: str, span: Span) -> Span:
    """Return a span without the white space around its words."""
    text = context[span.start : span.end]
    return Span(span.start + len(text) - len(text.lstrip()), span.start + len(text.rstrip()))


def _is_whole(context: str, span: Span) -> bool:
    """Say whether a span ends no word in the middle."""
    before, after = context[max(span.start - 1, 0) : span.start + 1], context[span.end - 1 : span.end + 1]
    return not any(len(pair) == 2 and pair.isalnum() for pair in (before, after))
