"""Rows written as files that the readers read again: CSV, TSV, JSON Lines, JSON and Parquet, batch after batch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa

from tunesmith.data.records import ROW
from tunesmith.data.rows import nested_columns
from tunesmith.files.atomic import new_file
from tunesmith.types import InputError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def require_row_format(path: Path, schema: pa.Schema, option: str) -> None:
    """Raise ``InputError`` where rows of these columns cannot be written to a file of this name."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{option} {path}: rows are written as {', '.join(SUFFIXES)}.",
            f"Call it {path.with_suffix('.jsonl')}, which holds rows of every form.",
        )
    nested = [field.name for field in schema if pa.types.is_nested(field.type)] + sorted(nested_columns(schema))
    if suffix in (".csv", ".tsv") and nested:
        raise InputError(
            f"{option} {path}: the column '{nested[0]}' holds lists or objects, which text has no cells for.",
            f"Call it {path.with_suffix('.jsonl')}.",
        )


class RowFile(AbstractContextManager["RowFile"]):
    """Writes rows into a new file, which is there when all are written, in the form that its name says."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Begin a file of these columns; ``__row__`` is left out, and what was nested is written nested."""
        self._path = path
        self._schema = pa.schema([field for field in schema if field.name != ROW])
        self._nested = nested_columns(schema)
        self._suffix = path.suffix.lower()
        self._stack = ExitStack()
        self.num_rows = 0

    def __enter__(self) -> Self:
        self._file: IO[bytes] = self._stack.enter_context(new_file(self._path))
        names = self._schema.names
        if self._suffix in (".csv", ".tsv"):
            self._write_cells([names])
        elif self._suffix == ".json":
            self._file.write(b"[")
        elif self._suffix == ".parquet":
            from pyarrow import parquet

            self._parquet = self._stack.enter_context(parquet.ParquetWriter(self._file, self._schema))
        return self

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows: a cell for each column, None where there is none."""
        listed = list(rows)
        if self._suffix == ".parquet":
            self._parquet.write_table(pa.Table.from_pylist(listed, schema=self._schema))
        elif self._suffix in (".csv", ".tsv"):
            self._write_cells([_cell(row.get(name)) for name in self._schema.names] for row in listed)
        else:
            for text in self._objects(listed):
                is_first = self.num_rows == 0
                before = "" if self._suffix == ".jsonl" else "\n" if is_first else ",\n"
                self._file.write((before + text + ("\n" if self._suffix == ".jsonl" else "")).encode())
                self.num_rows += 1
            return
        self.num_rows += len(listed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._suffix == ".json":
            self._file.write(b"\n]\n")
        self._stack.__exit__(kind, error, traceback)

    def _write_cells(self, rows: Iterable[list[str]]) -> None:
        target = io.StringIO(newline="")
        delimiter = "\t" if self._suffix == ".tsv" else ","
        csv.writer(target, delimiter=delimiter, lineterminator="\n").writerows(rows)
        self._file.write(target.getvalue().encode())

    def _objects(self, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
        for row in rows:
            cells = {name: row.get(name) for name in self._schema.names}
            for name in self._nested:
                if isinstance(cells.get(name), str):
                    cells[name] = json.loads(cells[name])
            yield json.dumps(cells, ensure_ascii=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
