"""Plain text as passages: lines joined until there is enough of them, for models that read running text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.encodings import MAX_LINE, Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW
from tunesmith.data.tables import Rejections, TableWriter
from tunesmith.types import Problem

COLUMN = "column_1"
"""Named as the one column of a text file that is read line by line, so that the choice of columns stays right."""
SOON = 0.25
"""An empty line within this share of a passage's length ends it."""


@dataclass(frozen=True, slots=True)
class _Passage:
    line: int
    """Number of its first line."""
    lines: tuple[str, ...]
    bad_line: str | None = None
    """The line after it, where that cannot be used."""
    bad_number: int = 0
    is_cut: bool = False
    """Whether the bad line is one that is too long."""


def read_passages(
    path: Path, name: str, encoding: str, size: int, *, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's passages of at least ``size`` characters to ``target``: one text column plus ``__row__``.

    A passage ends at the end of a line, at an empty one if that comes soon enough; none begins
    with an empty line. Line ends inside are line feeds, whatever they were; the last one is left
    off. A line that cannot be used goes to ``rejected`` and ends its passage.
    """
    size = min(size, MAX_LINE)
    schema = pa.schema([(COLUMN, pa.string()), (ROW, pa.string())])
    with open_text(path, encoding) as text, TableWriter(target, schema) as writer:
        lines = Lines(text)
        for passage in _passages(lines, size):
            if passage.lines:
                joined = "".join(passage.lines).rstrip("\n")
                writer.add([joined, f"{name}:{passage.line}"], len(joined))
            if passage.bad_line is not None:
                reason = "the line is too long" if passage.is_cut else describe_mark(passage.bad_line, encoding)
                rejected.add(f"{name}:{passage.bad_number}", reason, passage.bad_line)
    return {"format": "plain text", "is_plain_text": True, "num_read": lines.number - rejected.count}, []


def _passages(lines: Lines, size: int) -> Iterator[_Passage]:
    taken: list[str] = []
    start = enough = num_characters = 0
    limit = 0.0
    for raw in lines:
        line = raw.lstrip("\ufeff") if lines.number == 1 else raw
        if lines.is_cut or has_marks(line):
            yield _Passage(start, tuple(taken), line, lines.number, lines.is_cut)
            taken, enough, num_characters = [], 0, 0
            continue
        line = _with_plain_end(line)
        is_blank = not line.strip()
        if not taken:
            if is_blank:
                continue
            start = lines.number
        taken.append(line)
        num_characters += len(line)
        if not enough:
            enough = len(taken) if num_characters >= size else 0
            limit = num_characters + SOON * size
        if not enough or (not is_blank and num_characters <= limit):
            continue
        if not is_blank:
            # No empty line came: what follows the line that made it long enough starts the next passage.
            lines.put_back(taken[enough:])
            del taken[enough:]
        yield _Passage(start, tuple(taken))
        taken, enough, num_characters = [], 0, 0
    if taken:
        yield _Passage(start, tuple(taken))


def _with_plain_end(line: str) -> str:
    return line.rstrip("\r\n") + "\n" if line.endswith(("\r", "\n")) else line
