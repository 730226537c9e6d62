"""Tables with a token a row: a column says which sentence it belongs to, others hold the token and its tags.

The sentence is named in every row, or in its first one only, as spreadsheets have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.conll_layout import is_scheme_tag, sample_lines
from tunesmith.data.delimited import DelimitedOptions, find_dialect
from tunesmith.data.delimited_records import Record, records
from tunesmith.data.dialect import Dialect
from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.tables import Rejections, TableWriter
from tunesmith.types import Guess, Problem

_MIN_ROWS = 6
_FEW_LINES = 200
_TAG_CELL = re.compile(r"(?:^|[,;\t|])\s*\"?(?:O|[BIMELSU][-_][^\s,;|\"]+)\"?\s*(?:[,;\t|\r\n]|$)")
_TOKEN_NAMES = frozenset(["word", "words", "token", "tokens", "form", "text", "char", "character"])
_SENTENCE_NAME = re.compile(r"sent|doc|^id$|_id$|idx|group|line|seq", re.IGNORECASE)
_TAG_NAME = re.compile(r"^(?:ner|tag|label|entity|iob|bio)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TokenTable:
    """How the columns of such a table are used."""

    dialect: Dialect
    sentence: int
    token: int
    tag: int
    is_named_once: bool
    """Whether only the first row of a sentence says which it is."""

    @property
    def lists(self) -> list[int]:
        """The columns that become lists."""
        return [index for index in range(len(self.dialect.columns)) if index != self.sentence]

    def name_of(self, index: int) -> str:
        """Return the name of a list."""
        if index == self.token:
            return "tokens"
        if index == self.tag:
            return "tags"
        own = self.dialect.columns[index]
        return f"{own} {index + 1}" if own in ("tokens", "tags") else own


def find_token_table(path: Path, suffix: str, encoding: str) -> TokenTable | None:
    """Return how a delimited file is used as a table of tokens; None where it is none."""
    with open_text(path, encoding) as text:
        lines, _ = sample_lines(Lines(text))
    if not lines or not _TOKEN_NAMES & {word.strip(' "\r\n').lower() for word in re.split(r"[,;\t|]", lines[0])}:
        return None
    # To learn how a table is written takes a look at all of it; most need none.
    first = lines[1:_FEW_LINES]
    if len(first) < _MIN_ROWS or 2 * sum(_TAG_CELL.search(line) is not None for line in first) < len(first):
        return None
    dialect, _ = find_dialect(path, suffix, encoding, DelimitedOptions())
    if not dialect.header or dialect.delimiter is None:
        return None
    rows = [
        record.cells
        for record in _records(Lines(iter(lines)), dialect)
        if not record.error and len(record.cells) >= len(dialect.columns)
    ]
    return _used(dialect, [list(column) for column in zip(*rows, strict=False)]) if len(rows) >= _MIN_ROWS else None


def _used(dialect: Dialect, columns: Sequence[Sequence[str]]) -> TokenTable | None:
    names = [name.strip().lower() for name in dialect.columns]
    indices = range(len(names))
    token = next((index for index in indices if names[index] in _TOKEN_NAMES and _are_tokens(columns[index])), None)
    tags = [index for index in indices if index != token and _are_tags(columns[index])]
    if token is None or not tags:
        return None
    tag = next((index for index in reversed(tags) if _TAG_NAME.match(names[index])), tags[-1])
    for index in sorted(indices, key=lambda index: _SENTENCE_NAME.search(names[index]) is None):
        is_named_once = not all(cell.strip() for cell in columns[index])
        if index not in (token, *tags) and _are_runs(columns[index], is_named_once=is_named_once):
            return TokenTable(dialect, index, token, tag, is_named_once)
    return None


def _are_tokens(cells: Sequence[str]) -> bool:
    return sum(" " not in cell.strip() for cell in cells) >= 0.99 * len(cells) and len(set(cells)) > 2


def _are_tags(cells: Sequence[str]) -> bool:
    fitting = sum(is_scheme_tag(cell.strip()) for cell in cells)
    return fitting >= 0.95 * len(cells) and any("-" in cell.strip("-") for cell in cells) and "O" in cells


def _are_runs(cells: Sequence[str], *, is_named_once: bool) -> bool:
    """Say whether a column cuts the rows into sentences: every name in one run, runs of several rows."""
    starts = [
        cell.strip()
        for before, cell in zip(["\0", *cells], cells, strict=False)
        if (cell.strip() if is_named_once else cell != before)
    ]
    return 1 < len(starts) <= len(cells) / 2 and len(set(starts)) >= 0.98 * len(starts) and bool(cells[0].strip())


def read_token_table(
    path: Path, name: str, encoding: str, table: TokenTable, *, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the table's sentences to ``target``, a list for every column but that of the sentence.

    A bad row costs its sentence, which goes to ``rejected`` under that row.
    """
    schema = pa.schema([*((table.name_of(index), pa.list_(pa.string())) for index in table.lists), (ROW, pa.string())])
    num_sentences = 0
    with open_text(path, encoding) as text, TableWriter(target, schema) as writer:
        for rows in _sentences(Lines(text), table):
            num_sentences += 1
            bad = next((row for row in rows if row.error), None) or next(
                (replace(row, error=reason) for row in rows if (reason := _reason(row, table, encoding))), None
            )
            if bad is not None:
                rejected.add(f"{name}:{bad.line}", bad.error, "".join(bad.lines[:3]))
                continue
            columns = [
                [row.cells[index].strip() or " " * (index == table.token) for row in rows] for index in table.lists
            ]
            writer.add([*columns, f"{name}:{rows[0].line}"], sum(map(len, columns[0])) * 3)
    column = table.dialect.columns
    message = (
        f"{name} has a token a row; rows with the same '{column[table.sentence]}' were taken for a sentence, "
        f"'{column[table.token]}' for its tokens and '{column[table.tag]}' for their tags."
    )
    guess = Guess("rows", "a token a row", num_sentences, (), "data.header")
    details = {"format": "table of tokens", "guesses": [guess_to_dict(guess)]}
    return details, [Problem("note", message, "Give data.header to have every row as it is.")]


def _records(lines: Lines, dialect: Dialect) -> Iterator[Record]:
    for _ in range(dialect.num_skipped):
        next(lines, None)
    found = records(lines, dialect.delimiter, dialect.quoting, len(dialect.columns))
    next(found, None)
    return found


def _sentences(lines: Lines, table: TokenTable) -> Iterator[list[Record]]:
    rows: list[Record] = []
    last = ""
    for record in _records(lines, table.dialect):
        cells = record.cells
        key = cells[table.sentence].strip() if len(cells) > table.sentence else last
        begins = bool(key) if table.is_named_once else key != last
        # A row that cannot be read belongs to the sentence around it.
        if begins and rows and not record.error and len(cells) >= len(table.dialect.columns):
            yield rows
            rows = []
        rows.append(record)
        last = key
    if rows:
        yield rows


def _reason(row: Record, table: TokenTable, encoding: str) -> str:
    width = len(table.dialect.columns)
    if any(map(has_marks, row.lines)):
        return next(describe_mark(line, encoding) for line in row.lines if has_marks(line))
    if len(row.cells) != width:
        return f"{len(row.cells)} columns where {width} were expected"
    return "" if row.cells[table.tag].strip() else "a token without a tag"
