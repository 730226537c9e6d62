"""CSV, TSV and other delimited text into Arrow: every cell as text, bad rows named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.cuts import Count, Cut, count_widths
from tunesmith.data.delimited_records import Block, Record, blocks, long_cells
from tunesmith.data.dialect import Dialect, detect, is_separator_line
from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.open_columns import join_cells
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.rows import batches, open_table
from tunesmith.data.tables import MAX_COLUMNS, Rejections, TableWriter
from tunesmith.files.operations import rename
from tunesmith.types import MAX_ROWS_SHOWN, Guess, InputError, Problem

_SAMPLE_CHARACTERS = 1 << 20
_SAMPLE_LINES = 5_000


@dataclass(frozen=True, slots=True)
class DelimitedOptions:
    """The user's word on how a file is written; None means: look."""

    delimiter: str | None = None
    header: bool | None = None
    like: tuple[str, ...] = ()
    """Column names of the training file, whose repetition in another file is a header."""


def read_delimited(
    path: Path, name: str, suffix: str, encoding: str, *, options: DelimitedOptions, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's rows to ``target`` as text columns plus ``__row__``.

    Returns what was found out about the file, and problems. Bad rows go to ``rejected``.
    """
    with long_cells():
        dialect, guesses = find_dialect(path, suffix, encoding, options)
        if len(dialect.columns) > MAX_COLUMNS:
            raise InputError(
                f"{name} has {len(dialect.columns)} columns, more than {MAX_COLUMNS}.",
                "Check data.delimiter, or keep only the columns that are needed.",
            )
        schema = pa.schema([*((column, pa.string()) for column in dialect.columns), (ROW, pa.string())])
        with open_text(path, encoding) as text, TableWriter(target, schema) as writer:
            rows = _Rows(name, dialect, encoding, writer, rejected)
            for part in _data_parts(text, dialect):
                rows.add(part)
    problems = rows.notes()
    if dialect.delimiter == ";":
        problems += _read_decimal_commas(target, schema, name)
    details = {"format": "delimited text", "dialect": dialect.to_dict(), "guesses": list(map(guess_to_dict, guesses))}
    return details, problems


def find_dialect(path: Path, suffix: str, encoding: str, options: DelimitedOptions) -> tuple[Dialect, list[Guess]]:
    """Return how a file is written, and the guesses that were made."""
    with open_text(path, encoding) as text:
        sample = _sample(Lines(text))

    def survey(cut: Cut, width: int | None) -> Count:
        with open_text(path, encoding) as text:
            lines = Lines(text)
            if sample and is_separator_line(sample[0]):
                next(lines, None)
            return count_widths(lines, cut, width)

    return detect(sample, suffix, survey, delimiter=options.delimiter, header=options.header, like=options.like)


class _Rows:
    """Takes the rows of a file on their way to the table."""

    def __init__(self, name: str, dialect: Dialect, encoding: str, writer: TableWriter, rejected: Rejections) -> None:
        self._name = name
        self._dialect = dialect
        self._width = len(dialect.columns)
        self._encoding = encoding
        self._writer = writer
        self._rejected = rejected
        self._wide: list[str] = []
        self._num_wide = self._num_joined = 0
        self._num_due = dialect.num_further + 1 if dialect.header else 0
        """Rows that are yet to come before the first one of the data."""
        self._names: list[str] = []
        self._is_bar = dialect.delimiter == "|"
        self._num_repeated = 0

    def add(self, part: Block | Record) -> None:
        """Add one row, or a block of them."""
        if isinstance(part, Record):
            self._add_row(part)
            return
        width, name = self._width, self._name
        is_plain = not has_marks("".join(part.lines))
        for line, (cells, content) in enumerate(zip(part.rows, part.lines, strict=True), start=part.line):
            is_row = cells != self._names and not (self._is_bar and _is_ruler(cells))
            if is_plain and len(cells) == width and not self._num_due and is_row:
                self._writer.add([*cells, f"{name}:{line}"], len(content))
            elif cells:
                self._add_row(Record(line, cells, [content]))

    def _add_row(self, record: Record) -> None:
        if self._num_due:
            if self._num_due == self._dialect.num_further + 1:
                # Several names: one cell may well come again as a text.
                self._names = list(record.cells) if len(record.cells) > 1 and not record.error else []
            self._num_due -= 1
            return
        if record.cells and record.cells == self._names:
            self._num_repeated += 1
            return
        if self._is_bar and _is_ruler(record.cells):
            return
        place = f"{self._name}:{record.line}"
        cells, reason = _fit(record, self._dialect, self._encoding)
        if reason:
            self._rejected.add(place, reason, "".join(record.lines[:3]))
            return
        if len(record.cells) > self._width and self._dialect.taker is not None:
            self._num_joined += 1
        elif len(record.cells) > self._width and any(record.cells[self._width :]):
            self._num_wide += 1
            if len(self._wide) < MAX_ROWS_SHOWN:
                self._wide.append(place)
        self._writer.add([*cells, place], sum(map(len, record.lines)))

    def notes(self) -> list[Problem]:
        """Return what is worth saying about the rows added."""
        notes = self._notes_of_header()
        if self._num_joined and self._dialect.taker is not None:
            column = self._dialect.columns[self._dialect.taker]
            message = (
                f"{self._name}: {self._num_joined} rows have more than {self._width} cells; what is over was read as "
            )
            message += f"part of '{column}', whose texts hold {self._dialect.delimiter!r} without quotes."
            notes.append(Problem("warning", message, "Quote the texts if that is wrong.", count=self._num_joined))
        if not self._num_wide:
            return notes
        message = f"{self._num_wide} rows have more than {self._width} columns; the extra ones were not read."
        return [*notes, Problem("note", f"{self._name}: {message}", count=self._num_wide, rows=tuple(self._wide))]

    def _notes_of_header(self) -> list[Problem]:
        notes = []
        if number := self._dialect.num_titles:
            message = f"{self._name}: {number} lines above the names of the columns were not read."
            notes.append(Problem("note", message, "Give data.header to read them as rows.", count=number))
        if number := self._dialect.num_further:
            message = f"{self._name}: {number} rows below the names of the columns say more of them and were not read."
            notes.append(Problem("note", message, "Give data.header to read them as rows.", count=number))
        if number := self._num_repeated:
            message = f"{self._name}: {number} rows repeat the names of the columns; they were not read."
            notes.append(Problem("note", message, count=number))
        return notes


def _is_ruler(cells: Sequence[str]) -> bool:
    """Say whether a row is the line between the names and the rows of a table drawn with bars."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return len(filled) > 1 and all(len(cell) >= 3 and not cell.strip(":").strip("-") for cell in filled)


def _sample(lines: Lines) -> list[str]:
    sample: list[str] = []
    num_characters = 0
    for line in islice(lines, _SAMPLE_LINES):
        if num_characters + len(line) > _SAMPLE_CHARACTERS and sample:
            break
        sample.append(line[:_SAMPLE_CHARACTERS])
        num_characters += len(line)
    return sample


def _data_parts(text: Any, dialect: Dialect) -> Iterator[Block | Record]:
    lines = Lines(text)
    for _ in range(dialect.num_skipped):
        next(lines, None)
    return blocks(lines, dialect.delimiter, dialect.quoting, len(dialect.columns))


_DECIMAL = r"^\s*[+-]?[0-9]+(,[0-9]+)?\s*$"


def _read_decimal_commas(target: Path, schema: pa.Schema, name: str) -> list[Problem]:
    """Write numbers with a decimal comma (``2,5``) with a point: in a column where nothing else stands."""
    rows = open_table(target, "")
    columns = [column for column in schema.names if column != ROW and _has_decimal_commas(rows.table.column(column))]
    if not columns:
        return []
    rewritten = target.with_name("decimal.arrow")
    with TableWriter(rewritten, schema) as writer:
        for batch in batches(rows):
            arrays = [
                pc.replace_substring(array, ",", ".") if field.name in columns else array
                for field, array in zip(schema, batch.columns, strict=True)
            ]
            writer.add_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    del rows
    rename(rewritten, target)
    listed = ", ".join(f"'{column}'" for column in columns)
    return [Problem("note", f"{name}: the numbers in {listed} have a decimal comma; it was read as a point.")]


def _has_decimal_commas(cells: pa.ChunkedArray) -> bool:
    """Say whether all cells that are filled are numbers, some with a decimal comma."""
    has_comma = False
    for chunk in cells.chunks:
        filled = chunk.filter(pc.not_equal(pc.utf8_trim_whitespace(chunk), ""))
        if not pc.all(pc.match_substring_regex(filled, _DECIMAL), min_count=0).as_py():
            return False
        has_comma = has_comma or bool(pc.any(pc.match_substring(filled, ",")).as_py())
    return has_comma


def _fit(record: Record, dialect: Dialect, encoding: str) -> tuple[Sequence[str], str]:
    """Return the cells that fill the columns, or why they cannot."""
    if record.error:
        return (), record.error
    for line in record.lines:
        if has_marks(line):
            return (), describe_mark(line, encoding)
    cells, width = record.cells, len(dialect.columns)
    if len(cells) > width and dialect.taker is not None and dialect.delimiter is not None:
        return join_cells(cells, width, dialect.taker, dialect.delimiter), ""
    if len(cells) < width:
        return (), f"{len(cells)} columns where {width} were expected"
    if len(cells) > width and dialect.delimiter != "\t" and any(cell.strip() for cell in cells[width:]):
        # The separator also stands inside a text: nobody can say where the columns begin.
        return (), f"{len(cells)} columns where {width} were expected (a text with {dialect.delimiter!r} needs quotes)"
    return cells[:width], ""
