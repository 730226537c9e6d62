"""CoNLL files: a token a line with its tags in columns, blank lines between sentences.

Which column holds the tokens and which the tags is told by what stands in them, over the whole file; all other
columns stay available as lists of their own. A single column holds tokens to predict on. A sentence is a row, and
a bad line costs its sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.conll_layout import (
    DOCUMENT,
    Layout,
    Survey,
    find_layout,
    is_scheme_tag,
    sample_lines,
    separators_in,
)
from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.tables import MAX_COLUMNS, Rejections, TableWriter
from tunesmith.types import InputError, Problem

_MIN_SAMPLE_SENTENCES = 2
_MAX_TAGS = 100
_NUMBERED = re.compile("(?:.|[\ufffd\udc80-\udcff]+)[0-9]{1,2}")
"""A character (one that could not be decoded may be several) and its number."""
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,4})?:(?=.)")
_ONTONOTES_NAME = re.compile(r"\(([^()*]+)")


@dataclass(slots=True)
class Sentence:
    """The lines of one sentence, in columns; or why it cannot be used."""

    line: int
    cells: list[list[str]] = field(default_factory=list)
    """A list of columns for each token."""
    reason: str = ""
    bad_line: int = 0
    content: str = ""

    def blame(self, line: int, reason: str, content: str) -> None:
        """Note the first thing that is wrong."""
        if not self.reason:
            self.reason, self.bad_line, self.content = reason, line, content


def looks_like_conll(path: Path, encoding: str, *, is_table: bool = False) -> bool:
    """Say whether a file of unknown name holds tokens with tags: blank lines, even columns, few distinct tags.

    What is by its name a table (``is_table``) must have tags of entities.
    """
    with open_text(path, encoding) as text:
        lines, _ = sample_lines(Lines(text))
    layout = find_layout(lines)
    if layout is None or not 2 <= layout.num_columns <= MAX_COLUMNS:
        return False
    if layout.kind != "columns":
        return True
    sentences = [one for one in _sentences(Lines(iter(lines)), encoding, layout) if one.cells or one.reason]
    rows = [cells for sentence in sentences for cells in sentence.cells]
    num_bad = sum(bool(sentence.reason) for sentence in sentences)
    if len(sentences) < _MIN_SAMPLE_SENTENCES or len(rows) < 2 * len(sentences) or num_bad > 0.05 * len(rows):
        return False
    if any(" " in cell for cells in rows for cell in cells if cell.strip()):
        return False
    tags = [cells[layout.tags] for cells in rows]
    num_fitting = sum(map(is_scheme_tag, tags))
    if is_table:
        return num_fitting >= 0.95 * len(rows) and len(set(tags)) > 1 and any("-" in tag for tag in tags)
    return num_fitting >= 0.95 * len(rows) or len(set(tags)) <= min(_MAX_TAGS, len(rows) / 5)


def read_conll(
    path: Path,
    name: str,
    encoding: str,
    target: Path,
    rejected: Rejections,
    *,
    delimiter: str | None = None,
    like: tuple[str, ...] = (),
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's sentences to ``target``: ``tokens``, ``tags``, and ``column_1`` and so on, each a list.

    CoNLL-U has the names of its own columns. Sentences with a bad line go to ``rejected``, under that line.
    Characters that carry the number of their place in a word (``科0 技1``) lose it, if all of the file do, and tokens
    the language before them (``en:``). ``delimiter`` is the user's word; ``like`` holds the columns of the training
    file, which another file of as many has too. Raises ``InputError`` when there are no tokens.
    """
    layout = _layout_of(path, encoding, delimiter)
    if layout is None:
        raise InputError(
            f"{name} holds no tokens.",
            "Expected a token and its tag on every line, with a tab or a space between, and blank lines between "
            "sentences.",
        )
    if layout.num_columns > MAX_COLUMNS:
        raise InputError(
            f"{name} has {layout.num_columns} columns, more than {MAX_COLUMNS}.",
            "Keep only the columns that are needed.",
        )
    layout = layout.like(like)
    is_numbered, language = _marks_of_tokens(path, encoding, layout)
    kept = layout.kept
    schema = pa.schema([*((layout.names[index], pa.list_(pa.string())) for index in kept), (ROW, pa.string())])
    with open_text(path, encoding) as text, TableWriter(target, schema) as writer:
        for sentence in _sentences(Lines(text), encoding, layout):
            if sentence.reason:
                rejected.add(f"{name}:{sentence.bad_line}", sentence.reason, sentence.content)
                continue
            columns = [[cells[index] for cells in sentence.cells] for index in kept]
            tokens = columns[kept.index(layout.tokens)]
            if is_numbered:
                tokens[:] = [token.rstrip("0123456789") or token[:1] for token in tokens]
            elif language:
                tokens[:] = [token.removeprefix(language) for token in tokens]
            writer.add([*columns, f"{name}:{sentence.line}"], sum(map(len, tokens)) * 3)
    problems = []
    if is_numbered and writer.num_rows:
        message = (
            f"{name}: every token is a character with its number in a word (such as 科0); the numbers were removed."
        )
        problems.append(Problem("note", message))
    if language:
        problems.append(Problem("note", f"{name}: every token begins with its language, “{language}”; it was removed."))
    if layout.choice:
        fix = "Choose others with data.columns.tokens and data.columns.tags."
        problems.append(Problem("note", f"{name}: {layout.choice}", fix))
    return {"format": layout.title, "guesses": [guess_to_dict(layout.guess)]}, problems


def _layout_of(path: Path, encoding: str, delimiter: str | None) -> Layout | None:
    """Return the layout that explains most sentences of the whole file."""
    with open_text(path, encoding) as text:
        sample, is_whole = sample_lines(Lines(text))
    separators = separators_in(sample) if delimiter is None else [None if delimiter.isspace() else delimiter]
    if delimiter == "\t":
        separators = ["\t"]
    chosen = find_layout(sample, separators)
    while chosen is not None and not is_whole:
        survey = Survey(separators, chosen)
        with open_text(path, encoding) as text:
            for line in Lines(text):
                survey.add(line)
        found = survey.finish()
        if found is None or (found.separator, found.num_columns) == (chosen.separator, chosen.num_columns):
            return found
        # The whole file says otherwise than its beginning: its columns have to be looked at as well.
        chosen = found
    return chosen


def _marks_of_tokens(path: Path, encoding: str, layout: Layout) -> tuple[bool, str]:
    """Say whether every token is a character with a number, and return the language that every token begins with."""
    is_numbered, is_ascii, language = True, True, None
    with open_text(path, encoding) as text:
        for sentence in _sentences(Lines(text), encoding, layout):
            for cells in () if sentence.reason else sentence.cells:
                token = cells[layout.tokens]
                is_numbered = is_numbered and _NUMBERED.fullmatch(token) is not None
                is_ascii = is_ascii and token.isascii()
                if language is None:
                    found = _LANGUAGE.match(token)
                    language = found.group() if found else ""
                elif language and not token.startswith(language):
                    language = ""
            if not is_numbered and not language:
                break
    return is_numbered and not is_ascii, language or ""


def _sentences(lines: Lines, encoding: str, layout: Layout) -> Iterator[Sentence]:
    """Yield the sentences, comments and headings left out, as full columns."""
    sentence = Sentence(1)
    is_first = True
    for raw in lines:
        line = raw.lstrip("\ufeff") if lines.number == 1 else raw
        if not line.strip() or line.startswith(DOCUMENT):
            if sentence.cells or sentence.reason:
                yield _finished(sentence, layout)
            sentence = Sentence(lines.number + 1)
            continue
        cells = layout.cut(line)
        if line.startswith("#") and layout.is_comment(line, cells, is_inside=bool(sentence.cells or sentence.reason)):
            continue
        if is_first and layout.is_heading(cells):
            is_first = False
            continue
        is_first = False
        if not sentence.cells and not sentence.reason:
            sentence.line = lines.number
        _add_line(sentence, lines, line, cells, layout=layout, encoding=encoding)
    if sentence.cells or sentence.reason:
        yield _finished(sentence, layout)


def _add_line(sentence: Sentence, lines: Lines, line: str, cells: list[str], *, layout: Layout, encoding: str) -> None:
    if has_marks(line):
        sentence.blame(lines.number, describe_mark(line, encoding), line)
        return
    if lines.is_cut:
        sentence.blame(lines.number, "the line is too long", line)
        return
    if layout.kind == "CoNLL-U" and layout.is_no_word(cells):
        return
    full = layout.complete(line, cells)
    if full is None:
        reason = "a token without a tag" if len(cells) == 1 else f"{len(cells)} columns, not {layout.num_columns}"
        sentence.blame(lines.number, reason, line)
    elif layout.num_columns > 1 and not full[layout.tags]:
        sentence.blame(lines.number, "a token without a tag", line)
    elif full[layout.tokens] == DOCUMENT:
        return
    else:
        sentence.cells.append(full)


def _finished(sentence: Sentence, layout: Layout) -> Sentence:
    """Return the sentence with entities in brackets, as OntoNotes has them, as BIO."""
    if layout.kind == "OntoNotes" and not sentence.reason:
        kind = ""
        for cells in sentence.cells:
            mark = cells[layout.tags]
            opened = _ONTONOTES_NAME.match(mark)
            kind = opened.group(1) if opened else kind
            cells[layout.tags] = f"{'B' if opened else 'I'}-{kind}" if kind else "O"
            if mark.endswith(")"):
                kind = ""
    return sentence
