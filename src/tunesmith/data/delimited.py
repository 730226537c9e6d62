"""CSV, TSV and other delimited text into Arrow: every cell as text, bad rows named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.dialect import Dialect, Record, detect, records
from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW
from tunesmith.data.tables import MAX_COLUMNS, Rejections, TableWriter
from tunesmith.types import InputError, Problem

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
    with open_text(path, encoding) as text:
        dialect = detect(
            _sample(Lines(text)), suffix, delimiter=options.delimiter, header=options.header, like=options.like
        )
    if len(dialect.columns) > MAX_COLUMNS:
        raise InputError(
            f"{name} has {len(dialect.columns)} columns, more than {MAX_COLUMNS}.",
            "Check data.delimiter, or keep only the columns that are needed.",
        )
    schema = pa.schema([*((column, pa.string()) for column in dialect.columns), (ROW, pa.string())])
    wide: list[str] = []
    num_wide = 0
    with open_text(path, encoding) as text, TableWriter(target, schema) as writer:
        for record in _data_records(text, dialect):
            place = f"{name}:{record.line}"
            cells, reason = _fit(record, dialect, encoding)
            if reason:
                rejected.add(place, reason, "".join(record.lines[:3]))
                continue
            if len(record.cells) > len(dialect.columns) and any(record.cells[len(dialect.columns) :]):
                num_wide += 1
                if len(wide) < 5:
                    wide.append(place)
            writer.add([*cells, place], sum(map(len, record.lines)))
    problems = []
    if num_wide:
        problems.append(
            Problem(
                "note",
                f"{name}: {num_wide} rows have more than {len(dialect.columns)} columns; the extra ones were not read.",
                count=num_wide,
                rows=tuple(wide),
            )
        )
    return {"format": "delimited text", "dialect": dialect.to_dict()}, problems


def _sample(lines: Lines) -> list[str]:
    sample: list[str] = []
    num_characters = 0
    for line in islice(lines, _SAMPLE_LINES):
        if num_characters + len(line) > _SAMPLE_CHARACTERS and sample:
            break
        sample.append(line[:_SAMPLE_CHARACTERS])
        num_characters += len(line)
    return sample


def _data_records(text: Any, dialect: Dialect) -> Any:
    lines = Lines(text)
    for _ in range(dialect.num_skipped):
        next(lines, None)
    found = records(lines, dialect.delimiter, dialect.quoting, len(dialect.columns))
    if dialect.header:
        next(found, None)
    return found


def _fit(record: Record, dialect: Dialect, encoding: str) -> tuple[Sequence[str], str]:
    """Return the cells that fill the columns, or why they cannot."""
    if record.error:
        return (), record.error
    for line in record.lines:
        if has_marks(line):
            return (), describe_mark(line, encoding)
    cells, width = record.cells, len(dialect.columns)
    if len(cells) < width:
        return (), f"{len(cells)} columns where {width} were expected"
    if len(cells) > width and dialect.delimiter != "\t" and any(cell.strip() for cell in cells[width:]):
        # The separator also stands inside a text: nobody can say where the columns begin.
        return (), f"{len(cells)} columns where {width} were expected (a text with {dialect.delimiter!r} needs quotes)"
    return cells[:width], ""
