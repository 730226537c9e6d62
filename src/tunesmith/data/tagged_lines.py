"""Text files with a sentence a line and its tags among the words: ``word/TAG word/TAG``, ``<PER>Ann</PER> runs``.

A file is one of these when hardly a line of it is anything else.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.conll_layout import sample_lines
from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.tables import Rejections, TableWriter
from tunesmith.types import Guess, Problem

_MIN_LINES = 3
_AGREEING = 0.95
_MAX_TAGS = 200
_JOINERS = "/_|#"
_TAG = re.compile(r"[^\W\d_][\w.:+$'-]{0,30}|[^\w\s]{1,4}")
_COMPOUND_END = re.compile(r"\](?:/?[A-Za-z]{1,6})?$")
"""End of a compound, as in ``[中国/ns 政府/n]nt``."""
_ELEMENT = re.compile(
    r"<(?P<name>[A-Za-z][\w.-]*)(?P<attributes>(?:\s+[\w:-]+=\"[^\"<>]*\")*)\s*>(?P<words>[^<>]*)</(?P=name)>"
)
_LINKED = re.compile(r"\[(?P<words>[^\[\]]+)\]\((?P<label>[A-Za-z][\w.:-]*)\)")
_TYPE = re.compile(r"\b(?:type|class|label)=\"([^\"]+)\"", re.IGNORECASE)
_USUAL_HTML = """
    a b body br code div em font h1 h2 h3 head html i img li ol p pre script small span strong style sub sup table td th
    title tr u ul
"""
_HTML = frozenset(_USUAL_HTML.split())


@dataclass(frozen=True, slots=True)
class TagLineForm:
    """How tags stand among the words of a line."""

    name: str
    """As an example: ``word/TAG``."""
    joiner: str = ""
    """What stands between a word and its tag."""
    num_tags: int = 1
    """Tags of every word: ``word/NN/B-PER`` has two."""
    pattern: re.Pattern[str] | None = None
    """What marks a span, where the words have no tags of their own."""
    num_lines: int = 0
    """Lines that are written so."""


def find_tag_lines(path: Path, encoding: str) -> TagLineForm | None:
    """Return how the tags of a file's lines are written; None where they are not."""
    with open_text(path, encoding) as text:
        lines = [line.strip().lstrip("\ufeff") for line in sample_lines(Lines(text))[0] if line.strip()]
    if len(lines) < _MIN_LINES:
        return None
    found = [form for joiner in _JOINERS for number in (2, 1) if (form := _joined(lines, joiner, number)) is not None]
    found += [
        form for form in (_marked(lines, "<X>words</X>", _ELEMENT), _marked(lines, "[words](X)", _LINKED)) if form
    ]
    return max(found, key=lambda form: (form.num_lines, form.num_tags), default=None)


def _joined(lines: Sequence[str], joiner: str, number: int) -> TagLineForm | None:
    """Return the form in which every word has tags after a joiner, if nearly all lines are in it."""
    if sum(joiner in line for line in lines) < _AGREEING * len(lines):
        return None
    tags: Counter[str] = Counter()
    num_fitting = num_words = 0
    for line in lines:
        parts = [_split_word(piece, joiner, number) for piece in line.split()]
        words = [part for part in parts if part is not None]
        if len(words) >= _AGREEING * len(parts):
            num_fitting += 1
            num_words += len(words)
            tags.update(part[-1] for part in words)
    is_usual = num_fitting >= _AGREEING * len(lines) and num_words >= 2 * num_fitting
    if not is_usual or len(tags) > min(_MAX_TAGS, max(num_words / 3, 2)):
        return None
    example = joiner.join(["word", *["TAG"] * number])
    return TagLineForm(example, joiner, number, None, num_fitting)


def _split_word(piece: str, joiner: str, number: int) -> list[str] | None:
    """Return a word and its tags; None where they are not there."""
    piece = _COMPOUND_END.sub("", piece) if "]" in piece[1:] and not piece.startswith("]") else piece
    parts = piece.rsplit(joiner, number)
    if len(parts) <= number or not parts[0]:
        return None
    if len(parts[0]) > 1 and parts[0].startswith("["):
        parts[0] = parts[0][1:]
    return parts if all(_TAG.fullmatch(tag) for tag in parts[1:]) else None


def _marked(lines: Sequence[str], name: str, pattern: re.Pattern[str]) -> TagLineForm | None:
    """Return the form in which spans are marked within the text, if several lines have marks of few names."""
    marks = [list(pattern.finditer(line)) for line in lines]
    labels = Counter(_label(match).lower() for found in marks for match in found)
    num_marked = sum(map(bool, marks))
    total = labels.total()
    if num_marked < max(_MIN_LINES, 0.2 * len(lines)) or len(labels) > min(_MAX_TAGS, total / 2) or set(labels) & _HTML:
        return None
    # Marks that are left over are of another kind.
    rest = sum(bool(re.search(r"</?[A-Za-z]", pattern.sub("", line))) for line in lines) if pattern is _ELEMENT else 0
    return TagLineForm(name, pattern=pattern, num_lines=len(lines)) if rest <= 0.05 * len(lines) else None


def _label(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if "label" in groups:
        return groups["label"]
    typed = _TYPE.search(groups["attributes"] or "")
    return typed[1] if typed else groups["name"]


def read_tagged_lines(
    path: Path, name: str, encoding: str, form: TagLineForm, *, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's sentences to ``target``: ``tokens`` and ``tags`` (the last ones), or ``text`` and ``entities``.

    Lines that are written otherwise go to ``rejected``.
    """
    strings = pa.list_(pa.string())
    if form.pattern is None:
        columns = [("tokens", strings), *(("column_2", strings) for _ in range(form.num_tags - 1)), ("tags", strings)]
    else:
        columns = [("text", pa.string()), ("entities", pa.string())]
    with open_text(path, encoding) as text, TableWriter(target, pa.schema([*columns, (ROW, pa.string())])) as writer:
        lines = Lines(text)
        for line in lines:
            content = line.strip().lstrip("\ufeff")
            if not content:
                continue
            cells = _cells(content, form)
            reason = _reason(content, cells, form, lines, encoding)
            if reason:
                rejected.add(f"{name}:{lines.number}", reason, content)
            else:
                assert cells is not None
                writer.add([*cells, f"{name}:{lines.number}"], 3 * len(content))
    guess = Guess(
        "line form", form.name, writer.num_rows, (("text", writer.num_rows + rejected.count),), "data.passage"
    )
    return {"format": f"lines of {form.name}", "guesses": [guess_to_dict(guess)]}, []


def _reason(content: str, cells: list[Any] | None, form: TagLineForm, lines: Lines, encoding: str) -> str:
    if has_marks(content):
        return describe_mark(content, encoding)
    if lines.is_cut:
        return "the line is too long"
    return f"a word without a tag, where {form.name} was expected" if cells is None else ""


def _cells(content: str, form: TagLineForm) -> list[Any] | None:
    if form.pattern is not None:
        return list(_without_marks(content, form.pattern))
    parts = [_split_word(piece, form.joiner, form.num_tags) for piece in content.split()]
    words = [part for part in parts if part is not None]
    return [list(column) for column in zip(*words, strict=True)] if len(words) == len(parts) else None


def _without_marks(content: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield the text without its marks, and the spans that they marked, as JSON."""
    pieces: list[str] = []
    spans = []
    position = length = 0
    for match in pattern.finditer(content):
        before, words = content[position : match.start()], match["words"]
        pieces += [before, words]
        start = length + len(before)
        length = start + len(words)
        position = match.end()
        if words.strip():
            inner = start + len(words) - len(words.lstrip())
            spans.append([inner, inner + len(words.strip()), _label(match)])
    yield "".join([*pieces, content[position:]])
    yield json.dumps(spans, ensure_ascii=False)
