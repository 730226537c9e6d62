"""Tables on their way to disk: rows in bounded batches, those that were rejected, and what was noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tunesmith.data.records import ROW, RejectedRow, problem_from_dict, problem_to_dict
from tunesmith.data.rows import BATCH_ROWS, Rows
from tunesmith.files.operations import perform
from tunesmith.types import Problem

BATCH_CHARACTERS = 16 * 1024 * 1024
MAX_COLUMNS = 2_000

_SHOWN_CHARACTERS = 300


class TableWriter(AbstractContextManager["TableWriter"]):
    """Writes rows to one Arrow stream file, holding at most one batch in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns: list[list[Any]] = [[] for _ in schema]
        self._num_characters = 0
        self.num_rows = 0
        self._path = path
        self._file = perform("write", path, lambda: pa.OSFile(str(path), "wb"))
        self._writer = pa.ipc.new_stream(self._file, schema)

    def add(self, values: Sequence[Any], num_characters: int) -> None:
        """Add one row; ``num_characters`` is about its size, which bounds the batch."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self._num_characters += num_characters
        self.num_rows += 1
        if len(self._columns[0]) >= BATCH_ROWS or self._num_characters >= BATCH_CHARACTERS:
            self._flush()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add rows that are Arrow already; not to be mixed with ``add``."""
        self._writer.write_batch(batch)
        self.num_rows += batch.num_rows

    def _flush(self) -> None:
        if self._columns and self._columns[0]:
            arrays = [
                pa.array(column, type=field.type) for column, field in zip(self._columns, self._schema, strict=True)
            ]
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._columns = [[] for _ in self._schema]
        self._num_characters = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()
            self._file.close()


class Rejections:
    """Rows that cannot be used, written to a file as they come; the first are kept to be shown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = 0
        self.first: list[RejectedRow] = []
        self._lines: list[str] = []

    def add(self, place: str, reason: str, content: str) -> None:
        # Lone surrogates mark undecodable bytes; they cannot be written.
        content = content[:_SHOWN_CHARACTERS].rstrip("\r\n").encode("utf-8", "backslashreplace").decode("utf-8")
        row = RejectedRow(place, reason, content)
        self.count += 1
        if len(self.first) < 5:
            self.first.append(row)
        self._lines.append(json.dumps(asdict(row), ensure_ascii=False))
        if len(self._lines) >= BATCH_ROWS:
            self.close()

    def close(self) -> None:
        """Write what is still held."""
        text = "".join(line + "\n" for line in self._lines)
        self._lines = []

        def append() -> None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)

        perform("write", self._path, append)


def read_rejections(path: Path) -> tuple[RejectedRow, ...]:
    """Return the rows that ``Rejections`` wrote."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return tuple(RejectedRow(**json.loads(line)) for line in file)


def write_report(folder: Path, values: Mapping[str, Any], problems: Sequence[Problem]) -> None:
    """Write ``report.json``: what is worth knowing about a table besides its rows."""
    described = {**values, "problems": [problem_to_dict(problem) for problem in problems]}
    path = folder / "report.json"
    perform("write", path, lambda: path.write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8"))


def read_report(folder: Path) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Return what ``write_report`` wrote: the values, and the problems."""
    described: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return described, tuple(problem_from_dict(problem) for problem in described.pop("problems"))


def column_names(rows: Rows) -> list[str]:
    """Return the user's own columns."""
    return [name for name in rows.column_names if name != ROW]


def unique_names(names: Sequence[str]) -> list[str]:
    """Return usable column names: blanks become ``column_k``, repeats get a number."""
    taken: set[str] = {ROW}
    result = []
    for index, name in enumerate(names, start=1):
        base = clean_name(name) or f"column_{index}"
        candidate, number = base, 2
        while candidate in taken:
            candidate, number = f"{base}_{number}", number + 1
        taken.add(candidate)
        result.append(candidate)
    return result


def clean_name(name: str) -> str:
    """Return a column name without control characters, marks of bad bytes and outer white space."""
    name = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(character for character in name if character.isprintable()).strip()
