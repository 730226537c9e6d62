"""CoNLL files: a token a line with its tags in columns, blank lines between sentences.

The first column is the token, the last the tag; what lies between stays available as
lists of its own. A single column holds tokens to predict on. A sentence is a row, and a bad
line costs its sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW
from tunesmith.data.tables import Rejections, TableWriter
from tunesmith.types import InputError, Problem

_SAMPLE_LINES = 5_000
_MIN_SAMPLE_SENTENCES = 2
_MAX_TAGS = 100
_DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"O|[BIMELSUW]-\S+")
_NUMBERED = re.compile(r"([0-9]|[^0-9]+)[0-9]+")
"""A character (one that could not be decoded may be several) and its number."""


@dataclass(slots=True)
class Sentence:
    """The lines of one sentence, in columns; or why it cannot be used."""

    line: int
    cells: list[list[str]] = field(default_factory=list)
    """A list of columns for each token."""
    reason: str = ""
    bad_line: int = 0
    content: str = ""
    is_numbered: bool = True
    """Whether every token is one character with its number in a segmented word."""

    def blame(self, line: int, reason: str, content: str) -> None:
        """Note the first thing that is wrong."""
        if not self.reason:
            self.reason, self.bad_line, self.content = reason, line, content


@dataclass(frozen=True, slots=True)
class Form:
    """How the lines are cut."""

    separator: str | None
    """A tab, or None for any white space."""
    num_columns: int

    def cut(self, line: str) -> list[str]:
        """Return the columns of a line."""
        if self.separator is None:
            return line.split()
        return [cell.strip() for cell in line.rstrip("\r\n").split(self.separator)]


def looks_like_conll(path: Path, encoding: str) -> bool:
    """Say whether a file of unknown name holds tokens with tags: blank lines, even columns, few distinct tags."""
    with open_text(path, encoding) as text:
        lines = list(islice(Lines(text), _SAMPLE_LINES))
    form = _find_form(lines)
    if form is None or form.num_columns < 2:
        return False
    blocks = [block for block in _blocks(lines) if block]
    rows = [form.cut(line) for block in blocks for line in block]
    even = [cells for cells in rows if len(cells) == form.num_columns]
    if len(blocks) < _MIN_SAMPLE_SENTENCES or len(rows) < 2 * len(blocks) or len(even) < 0.95 * len(rows):
        return False
    if any(" " in cell for cells in even for cell in cells):
        return False
    tags = Counter(cells[-1] for cells in even)
    num_fitting = sum(count for tag, count in tags.items() if _TAG.fullmatch(tag))
    return num_fitting >= 0.95 * len(even) or len(tags) <= min(_MAX_TAGS, len(even) / 5)


def read_conll(
    path: Path, name: str, encoding: str, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's sentences to ``target``: ``tokens``, ``column_2`` and so on, ``tags``, each a list.

    Sentences with a bad line go to ``rejected``, under that line. Characters that carry the
    number of their place in a word (``科0 技1``) lose it, if all of the file do. Raises
    ``InputError`` when there are no tokens.
    """
    with open_text(path, encoding) as text:
        form = _find_form(list(islice(Lines(text), _SAMPLE_LINES)))
    if form is None:
        raise InputError(
            f"{name} holds no tokens.",
            "Expected a token and its tag on every line, with a tab or a space between, and blank lines between "
            "sentences.",
        )
    is_numbered = all(
        sentence.is_numbered for sentence in _sentences(path, encoding, form) if not sentence.reason and sentence.cells
    )
    names = ["tokens", *(f"column_{index}" for index in range(2, form.num_columns)), "tags"][: form.num_columns]
    schema = pa.schema([*((column, pa.list_(pa.string())) for column in names), (ROW, pa.string())])
    with TableWriter(target, schema) as writer:
        for sentence in _sentences(path, encoding, form):
            if sentence.reason:
                rejected.add(f"{name}:{sentence.bad_line}", sentence.reason, sentence.content)
                continue
            columns = [list(column) for column in zip(*sentence.cells, strict=True)]
            if is_numbered:
                columns[0] = [token.rstrip("0123456789") or token[0] for token in columns[0]]
            writer.add([*columns, f"{name}:{sentence.line}"], sum(len(token) for token in columns[0]) * 3)
    problems = []
    if is_numbered and writer.num_rows:
        message = (
            f"{name}: every token is a character with its number in a word (such as 科0); the numbers were removed."
        )
        problems.append(Problem("note", message))
    return {"format": "CoNLL"}, problems


def _find_form(sample: list[str]) -> Form | None:
    lines = [line for block in _blocks(sample) for line in block]
    if not lines:
        return None
    with_tab = sum("\t" in line for line in lines)
    separator = "\t" if 2 * with_tab > len(lines) else None
    counts = Counter(len(Form(separator, 0).cut(line)) for line in lines)
    return Form(separator, counts.most_common(1)[0][0])


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if not line.strip():
            yield block
            block = []
        elif not line.lstrip("\ufeff").startswith((_DOCUMENT, "# ")):
            block.append(line)
    yield block


def _sentences(path: Path, encoding: str, form: Form) -> Iterator[Sentence]:
    with open_text(path, encoding) as text:
        lines = Lines(text)
        sentence = Sentence(1)
        for raw in lines:
            line = raw.lstrip("\ufeff") if lines.number == 1 else raw
            cells = form.cut(line)
            ends = not line.strip() or line.startswith(_DOCUMENT)
            if not ends and _is_comment(line, cells, form, sentence):
                continue
            if ends:
                if sentence.cells or sentence.reason:
                    yield sentence
                sentence = Sentence(lines.number + 1)
                continue
            if not sentence.cells and not sentence.reason:
                sentence.line = lines.number
            _add_line(sentence, lines, line, form, encoding)
        if sentence.cells or sentence.reason:
            yield sentence


def _is_comment(line: str, cells: list[str], form: Form, sentence: Sentence) -> bool:
    """Say whether a line is a comment: before a sentence, without the columns of a token (``# O`` is one)."""
    return line.startswith("#") and not sentence.cells and len(cells) != form.num_columns


def _add_line(sentence: Sentence, lines: Lines, line: str, form: Form, encoding: str) -> None:
    cells = form.cut(line)
    if has_marks(line):
        sentence.blame(lines.number, describe_mark(line, encoding), line)
    elif lines.is_cut:
        sentence.blame(lines.number, "the line is too long", line)
    elif len(cells) != form.num_columns:
        reason = "a token without a tag" if len(cells) == 1 else f"{len(cells)} columns, not {form.num_columns}"
        sentence.blame(lines.number, reason, line)
    elif form.num_columns > 1 and not cells[-1]:
        sentence.blame(lines.number, "a token without a tag", line)
    elif not cells[0]:
        sentence.blame(lines.number, "a tag without a token", line)
    else:
        sentence.is_numbered &= _NUMBERED.fullmatch(cells[0]) is not None
        sentence.cells.append(cells)
