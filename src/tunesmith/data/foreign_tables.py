"""Workbooks, databases and YAML files: read as the text that their own programs would export, CSV or JSON.

What is found out about that text (names of columns, titles, numbers) is found as in a file that somebody exported. The
files are of strangers and not plain: they are opened in a process with limits.
"""

from __future__ import annotations

import csv
import errno
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunesmith.bounded import Worker
from tunesmith.data.encodings import MAX_EXPANSION, open_text, show_name
from tunesmith.data.file_bounds import FileBounds, ask_about
from tunesmith.types import InputError, MissingExtraError, Problem

SHEETS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
DATABASES = frozenset({".db", ".db3", ".sqlite", ".sqlite3"})
YAML = frozenset({".yaml", ".yml"})
FOREIGN = SHEETS | DATABASES | YAML

BOUNDS = FileBounds(seconds=10.0, seconds_per_mb=6.0, memory=1 << 30, memory_growth=60)
"""Real files take a tenth of the time. Sheets are packed, and are read as a whole."""
_SHOWN_TABLES = 8
_EXACT = 1e15
"""Whole numbers up to this are the same as doubles, which sheets hold."""

_MAX_GROWTH, _SMALL = 20, 1 << 20
"""Times its size that a YAML file may stand for, and what any may."""
_TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY rowid"
_VIRTUAL = re.compile(r"\s*create\s+virtual\b", re.IGNORECASE)

_worker = Worker("tunesmith.data.foreign_tables:answer")


@dataclass(frozen=True, slots=True)
class Written:
    """A table as text."""

    suffix: str
    """Of the text's form: ``.csv`` or ``.json``."""
    has_header: bool | None
    """Whether its first row holds the names of columns; None: look."""
    notes: tuple[Problem, ...]


def kind_of(suffix: str) -> str:
    """Return what files with an ending of ``FOREIGN`` are, in a word."""
    return "YAML" if suffix in YAML else "database" if suffix in DATABASES else "workbook"


def tables_in(path: Path, suffix: str) -> dict[str, int]:
    """Return the names of a file's tables (or the sheets that it shows) with their numbers of rows, but for empty ones.

    YAML has one, without a name. Raises ``InputError`` for a damaged file.
    """
    if suffix in YAML:
        return {"": 1}
    found: dict[str, int] = json.loads(_asked(path, suffix, None, None))
    return {name: number for name, number in found.items() if number}


def ask_which(path: Path, suffix: str, tables: dict[str, int]) -> InputError:
    """Return the question back which of several tables is meant."""
    what = "tables" if suffix in DATABASES else "sheets"
    listed = ", ".join(f"'{name}' ({number:,} rows)" for name, number in list(tables.items())[:_SHOWN_TABLES])
    name = show_name(path)
    return InputError(
        f"{name} holds {len(tables)} {what}: {listed}.",
        f"Name one after a colon, such as {path}:{next(iter(tables))}, or call them train, validation and test.",
    )


def write_as_text(path: Path, suffix: str, table: str, target: Path) -> Written:
    """Write a table of the file to ``target``: as CSV, or YAML as JSON.

    ``table`` may be empty where there is only one. Raises ``InputError`` for a damaged file, and for one that grows
    out of proportion.
    """
    notes = json.loads(_asked(path, suffix, table, target))
    problems = tuple(Problem("note", f"{show_name(path)}: {message}", count=count) for message, count in notes)
    has_header = True if suffix in DATABASES else None
    return Written(".json" if suffix in YAML else ".csv", has_header, problems)


def _asked(path: Path, suffix: str, table: str | None, target: Path | None) -> bytes:
    if suffix in SHEETS and find_spec("python_calamine") is None:
        raise MissingExtraError(f"Reading workbooks ({suffix})", "python-calamine", "sheets")
    request = json.dumps([str(path.resolve()), suffix, table, None if target is None else str(target.resolve())])
    return ask_about(path, request.encode(), _worker, BOUNDS, name=show_name(path))


def answer(request: bytes) -> bytes:
    """Read a file in the process with limits: the names of its tables, or one of them written as text, and notes."""
    given, suffix, table, target = json.loads(request)
    path = Path(given)
    read = _read_yaml if suffix in YAML else _read_database if suffix in DATABASES else _read_workbook
    try:
        return json.dumps(read(path, table, None if target is None else Path(target))).encode()
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        message = f"{show_name(path)} grows to more than {MAX_EXPANSION} times its size when it is read."
        raise InputError(message, "Give it as CSV or JSONL, if its content is what you expect.") from error


def _write_csv(target: Path, rows: Iterable[Iterable[Any]]) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


# ---- databases -----------------------------------------------------------------------------------


def _read_database(path: Path, table: str | None, target: Path | None) -> Any:
    """Read a SQLite database: what it is as a file, and no code of it (views, virtual tables)."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise InputError(
            f"{show_name(path)} has rows that are not in it yet, but in {show_name(log)} beside it.",
            f"Close the program that writes it, or: sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'",
        )
    uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            database.execute("PRAGMA trusted_schema = OFF")
            names = [name for name, sql in database.execute(_TABLES) if not _VIRTUAL.match(sql or "")]
            if target is None:
                # S608: the names are the file's own, in quotes.
                counts = {name: database.execute(f"SELECT count(*) FROM {_quoted(name)}") for name in names}  # noqa: S608
                return {name: rows.fetchone()[0] for name, rows in counts.items()}
            if not names:
                raise InputError(f"{show_name(path)} holds no tables.", "Give a database with a table of rows.")
            rows = database.execute(f"SELECT * FROM {_quoted(table or names[0])}")  # noqa: S608
            blobs: set[str] = set()
            columns = [column[0] for column in rows.description]
            _write_csv(target, _cells_of(columns, rows, blobs))
    except sqlite3.Error as error:
        raise InputError(
            f"{show_name(path)} cannot be read as a SQLite database: {error}.", "Export the table as CSV."
        ) from None
    return [(f"binary columns were not read: {', '.join(sorted(blobs))}.", len(blobs))] if blobs else []


def _cells_of(columns: list[str], rows: Iterable[tuple[Any, ...]], blobs: set[str]) -> Iterator[list[Any]]:
    yield columns
    for row in rows:
        blobs.update(name for name, cell in zip(columns, row, strict=True) if isinstance(cell, bytes))
        yield ["" if cell is None or isinstance(cell, bytes) else cell for cell in row]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ---- workbooks -----------------------------------------------------------------------------------


def _read_workbook(path: Path, table: str | None, target: Path | None) -> Any:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    try:
        with closing(CalamineWorkbook.from_path(str(path))) as book:
            sheets = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
            shown = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
            hidden = [sheet.name for sheet in sheets if sheet.visible != SheetVisibleEnum.Visible]
            if target is None:
                return {name: len(_filled(book.get_sheet_by_name(name).to_python())) for name in shown}
            filled = [name for name in shown if book.get_sheet_by_name(name).height]
            if not filled:
                raise InputError(f"{show_name(path)} has no sheet with rows.", "Give a workbook with a filled sheet.")
            sheet = book.get_sheet_by_name(table or filled[0])
            rows = sheet.to_python(skip_empty_area=False)
            num_merged = _fill_merged(rows, sheet.merged_cell_ranges or ())
    except PasswordError:
        raise InputError(f"{show_name(path)} is encrypted.", "Save it without a password.") from None
    except (CalamineError, OSError) as error:
        message = f"{show_name(path)} cannot be read as a workbook: {error}."
        raise InputError(message, "It is damaged or cut: save it again, or as CSV UTF-8.") from None
    _write_csv(target, _filled(zip(*_filled(zip(*rows, strict=True)), strict=True)))
    notes = [(f"{num_merged} cells that are merged over several rows were read as each row's.", num_merged)]
    notes += [(f"hidden sheets were not read: {', '.join(hidden)}.", len(hidden))]
    return [(message, count) for message, count in notes if count]


def _filled(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return the rows (or columns) that are not empty, with their cells as they are written."""
    return [list(map(_cell, row)) for row in rows if any(cell != "" for cell in row)]


def _fill_merged(rows: list[list[Any]], ranges: Iterable[tuple[tuple[int, int], tuple[int, int]]]) -> int:
    """Give every row the cell that it shares with the rows above; return how many cells were merged so."""
    number = 0
    for (top, left), (bottom, right) in ranges:
        if left == right and top < min(bottom, len(rows)):
            number += 1
            for row in rows[top + 1 : bottom + 1]:
                row[left] = rows[top][left]
    return number


def _cell(value: Any) -> Any:
    """Return what a program would write of a cell: whole numbers, which sheets have none of, without a fraction."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    return value.isoformat(" ") if isinstance(value, datetime) else value


# ---- YAML ----------------------------------------------------------------------------------------


def _read_yaml(path: Path, table: str | None, target: Path | None) -> Any:
    """Read a YAML file by the rules of version 1.2: ``no`` is a text."""
    import yaml

    from tunesmith.config.load import PlainLoader

    assert target is not None
    del table
    try:
        with open_text(path, "utf-8") as text:
            documents = list(yaml.load_all(text.read().removeprefix("\ufeff"), PlainLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        raise InputError(f"{show_name(path)}{line}: not valid YAML: {reason}.", "Mend the file there.") from None
    _write_json(path, documents[0] if len(documents) == 1 else documents, target)
    return []


def _write_json(path: Path, value: Any, target: Path) -> None:
    """Write plain values; what aliases stand for is written each time that it stands there, up to a bound."""
    name, left = show_name(path), _MAX_GROWTH * path.stat().st_size + _SMALL
    parts = json.JSONEncoder(ensure_ascii=False).iterencode(value)
    with target.open("w", encoding="utf-8") as file:
        while left > 0:
            try:
                part = next(parts, None)
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{name} holds no plain values: {error}.", "Write the rows as JSONL.") from None
            if part is None:
                return
            left -= len(part)
            file.write(part)
    raise InputError(
        f"{name} stands for more than {_MAX_GROWTH} times its size: its aliases (*name) repeat what it holds.",
        "Write the rows out, as JSONL.",
    )
