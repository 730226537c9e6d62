"""The rows of a delimited file, cut as its separator and quoting say; a stray quote spoils no more than its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from tunesmith.data.encodings import MAX_LINE, Lines

Quoting = Literal["double", "backslash", "spaced", "single", "none"]
"""How cells with the separator in them are written: inner quotes doubled, or after a backslash; doubled, with a space
between the separator and the quote; in single quotes; or not at all."""

MAX_RECORD_LINES = 100_000
MAX_RECORD_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it stands in the file."""

    line: int
    """Number of its first line, from 1."""
    cells: list[str]
    lines: list[str]
    """The file's own lines, with their ends."""
    error: str = ""
    """Why it cannot be read; ``cells`` then mean nothing."""


class _RecordTooLongError(Exception):
    """A quoted cell that goes on and on: its closing quote is missing."""


class _Feed:
    """Hands lines to the csv module and remembers those that the current record took."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.taken: list[str] = []
        self._num_characters = 0
        self.ended = False

    def start(self) -> None:
        self.taken = []
        self._num_characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_RECORD_LINES or self._num_characters > MAX_RECORD_CHARACTERS:
            raise _RecordTooLongError
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.taken.append(line)
        self._num_characters += len(line)
        return line


def records(lines: Lines, delimiter: str | None, quoting: Quoting, width: int | None = None) -> Iterator[Record]:
    """Yield the rows of a delimited file; blank lines are passed over where there are several columns.

    A quote that is never closed, or a row over several lines that has not ``width`` cells,
    spoils its first line only: reading goes on with the next line, so that one stray quote
    does not swallow the rows after it.
    """
    if delimiter is None or quoting == "none":
        yield from _plain_records(lines, delimiter)
        return
    feed = _Feed(lines)
    reader = _csv_reader(feed, delimiter, quoting)
    num_returned = 0
    while True:
        feed.start()
        first = lines.number + 1
        error = ""
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            error = "a quote opened here is not closed"
        except csv.Error as problem:
            error = str(problem)
        if not error and feed.ended:
            error = "a quote opened here is not closed before the end of the file"
        if not error and width is not None and len(feed.taken) > 1 and len(cells) != width:
            error = f"a quote opened here runs over {len(feed.taken)} lines and gives {len(cells)} columns, not {width}"
        if not error and len(feed.taken) > 1 and not _is_well_quoted(feed.taken, delimiter, quoting):
            error = "a quote opened here is closed by one inside of a later text"
        if lines.is_cut:
            error = "the line is too long"
        if not error:
            # The csv module gives no cells for a blank line.
            if cells:
                yield Record(first, cells, feed.taken)
            continue
        rest = feed.taken[1:]
        num_returned += len(rest)
        # Lines are read again at most ten times over, so that no file takes for ever.
        if num_returned <= 10 * lines.number + MAX_RECORD_LINES:
            lines.put_back(rest)
        feed.ended = False
        reader = _csv_reader(feed, delimiter, quoting)
        yield Record(first, [], feed.taken[:1], error)


def _is_well_quoted(lines: list[str], delimiter: str, quoting: Quoting) -> bool:
    """Say whether every quote that closes a cell stands at the cell's end."""
    try:
        list(_csv_reader(iter(lines), delimiter, quoting, strict=True))
    except csv.Error:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Block:
    """Many rows of a line each, cut at once."""

    line: int
    """Number of the first line."""
    rows: list[list[str]]
    """The cells of every line; none for a blank one."""
    lines: list[str]


def blocks(lines: Lines, delimiter: str | None, quoting: Quoting, width: int | None = None) -> Iterator[Block | Record]:
    """Yield the rows of a delimited file as ``records`` does, but many at once where each stands on one line."""
    while taken := lines.block():
        rows = _rows_of_lines(taken, delimiter, quoting)
        if rows is not None:
            yield Block(lines.number - len(taken) + 1, rows, taken)
            continue
        end = lines.number
        lines.put_back(taken)
        found = records(lines, delimiter, quoting, width)
        while lines.number < end and (record := next(found, None)) is not None:
            yield record


def _rows_of_lines(lines: list[str], delimiter: str | None, quoting: Quoting) -> list[list[str]] | None:
    """Return the cells of every line, or None where rows go over several lines or cannot be read."""
    if max(map(len, lines)) >= MAX_LINE:
        return None
    if delimiter is None:
        return [[line.rstrip("\r\n")] for line in lines]
    if quoting == "none":
        stripped = [line.rstrip("\r\n") for line in lines]
        return [line.split(delimiter) if line.strip(" ") else [] for line in stripped]
    # An empty line at the end is a row of its own, unless a quote is still open.
    reader = _csv_reader(chain(lines, [""]), delimiter, quoting)
    try:
        rows = list(reader)
    except csv.Error:
        return None
    if not len(rows) == reader.line_num == len(lines) + 1:
        return None
    return rows[:-1]


@contextmanager
def long_cells() -> Iterator[None]:
    """Let the csv module read cells as long as lines can be."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_reader(lines: Any, delimiter: str, quoting: Quoting, *, strict: bool = False) -> Any:
    if quoting == "backslash":
        return csv.reader(lines, delimiter=delimiter, doublequote=False, escapechar="\\", strict=strict)
    quote = "'" if quoting == "single" else '"'
    spaced = quoting == "spaced"
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=spaced, strict=strict)


def _plain_records(lines: Lines, delimiter: str | None) -> Iterator[Record]:
    for line in lines:
        content = line.rstrip("\r\n")
        error = "the line is too long" if lines.is_cut else ""
        if delimiter is None:
            yield Record(lines.number, [content], [line], error)
        elif content.strip(" "):
            yield Record(lines.number, content.split(delimiter), [line], error)
