"""Rows that are in memory already: frames, tables, data sets, lists of dictionaries.

They are written to the cache once, under a key of their content, and read from there like any
file: equal rows have an equal path, so that a run on them can be resumed and opened again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.columnar import hub_batches
from tunesmith.data.image_columns import GIVEN
from tunesmith.data.image_files import looks_like_image
from tunesmith.data.sources import split_named, splits_of
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.operations import make_folder, perform
from tunesmith.types import InputError

_LOOKED_AT = 100
_EXPECTED = (
    "Expected a path, a pandas or polars frame, a pyarrow Table, a Dataset or DatasetDict of datasets, a list of "
    "dictionaries, or a dictionary of lists."
)


def is_table(data: Any) -> bool:
    """Say whether something in memory holds rows with columns."""
    if isinstance(data, (str, bytes, os.PathLike)):
        return False
    if isinstance(data, Mapping):
        return bool(data) and (_are_splits(data) or _are_columns(data))
    if isinstance(data, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return True
    if isinstance(data, Sequence):
        return bool(data) and all(isinstance(row, Mapping) for row in data[:5])
    has_columns = hasattr(data, "columns") or hasattr(data, "column_names")
    return has_columns and (hasattr(data, "__arrow_c_stream__") or _is_pandas(data) or _is_dataset(data))


def as_path(data: Any) -> str:
    """Return the path of some data: what is in memory is written to the cache first.

    Raises ``InputError`` for what holds no rows.
    """
    if isinstance(data, str):
        return data
    if isinstance(data, os.PathLike):
        return str(os.fspath(data))
    if not is_table(data):
        raise InputError(f"{type(data).__name__} holds no rows that can be read.", _EXPECTED)
    if isinstance(data, Mapping) and _are_splits(data):
        return _several(data)
    table = _Table.of(data)
    _require_rows(data, [table])
    key = hash_json({"": table.sha256()})
    path = Path(f"frame-{key[:8]}{table.suffix}")
    folder = cached_folder(GIVEN, key, lambda folder: _write(table, folder / path), hashes=True)
    return str(folder / path)


def _several(data: Mapping[Any, Any]) -> str:
    """Write the splits of some data as ``datasets`` saves them: what stands for no split is named, not written."""
    chosen = splits_of(map(str, data))
    tables = {split: _Table.of(data[name]) for split, name in chosen.items()}
    _require_rows(data, tables.values())
    others = sorted(set(map(str, data)) - set(chosen.values()))
    key = hash_json([{split: table.sha256() for split, table in tables.items()}, others])
    name = f"frames-{key[:16]}"

    def build(folder: Path) -> None:
        for split, table in tables.items():
            file = f"{name}.{split}{table.suffix}"
            _write(table, folder / split / file)
            _describe(folder / split / "state.json", {"_data_files": [{"filename": file}]})
        _describe(folder / "dataset_dict.json", {"splits": [*tables, *others]})

    return str(cached_folder(GIVEN, name, build, hashes=True))


def _require_rows(data: Any, tables: Iterable[_Table | _Records]) -> None:
    if not any(table.num_rows for table in tables):
        raise InputError(f"The {type(data).__name__} given holds no rows.", "Give at least a few.")


def _write(table: _Table | _Records, path: Path) -> None:
    make_folder(path.parent)
    perform("write", path, lambda: table.write(path))


def _describe(path: Path, values: Mapping[str, Any]) -> None:
    perform("write", path, lambda: path.write_text(json.dumps(values), encoding="utf-8"))


def with_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section ``data`` of a configuration with paths in the place of rows that are in memory."""
    sources = ("path", "validation", "test")
    return {key: as_path(value) if key in sources and value is not None else value for key, value in data.items()}


def _is_pandas(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "pandas"


def _is_dataset(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "datasets"


def _are_splits(data: Mapping[Any, Any]) -> bool:
    """Say whether a mapping is from the names of splits to tables."""
    are_named = all(isinstance(key, str) for key in data) and any(split_named(key) for key in data)
    is_alone = _is_dataset(data) and len(data) == 1
    return (are_named or is_alone) and all(
        not isinstance(value, Mapping) and is_table(value) for value in data.values()
    )


def _are_columns(data: Mapping[Any, Any]) -> bool:
    """Say whether a mapping is from the names of columns to their cells."""
    if not all(isinstance(key, str) and _is_list(value) for key, value in data.items()):
        return False
    return len({len(value) for value in data.values()}) == 1 and not is_table(next(iter(data.values())))


def _is_list(value: Any) -> bool:
    return not isinstance(value, (str, bytes, Mapping)) and hasattr(value, "__len__") and hasattr(value, "__iter__")


class _Table:
    """Rows on their way to a file of the cache."""

    suffix = ".arrow"

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self.num_rows = int(table.num_rows)

    @staticmethod
    def of(data: Any) -> _Table | _Records:
        """Return the table of what ``is_table`` holds for."""
        if isinstance(data, Mapping):
            names = list(data)
            return _of_rows([dict(zip(names, cells, strict=True)) for cells in zip(*data.values(), strict=True)])
        if isinstance(data, Sequence):
            return _of_rows([dict(row) for row in data])
        try:
            return _Table(_arrow(data))
        except (pa.ArrowException, TypeError, ValueError) as error:
            if _is_pandas(data):  # cells of several kinds in a column
                return _Records(data.to_dict("records"))
            raise InputError(f"{type(data).__name__} cannot be read: {error}.", _EXPECTED) from error

    def sha256(self) -> str:
        """Return a hash of the content."""
        digest = _Digest()
        self._write(pa.PythonFile(digest, "w"))
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write the rows to a new file."""
        with pa.OSFile(str(path), "wb") as file:
            self._write(file)

    def _write(self, sink: Any) -> None:
        with pa.ipc.new_stream(sink, self._table.schema) as writer:
            writer.write_table(self._table)


class _Digest(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written."""

    def __init__(self) -> None:
        super().__init__()
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._digest.update(content)
        return len(content)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _arrow(data: Any) -> pa.Table:
    if _is_dataset(data):
        schema = data.features.arrow_schema  # names the classes of labels
        return pa.Table.from_batches([batch.cast(schema) for batch in hub_batches(data)], schema)
    if _is_pandas(data):
        table = pa.Table.from_pandas(data, preserve_index=False)
    elif isinstance(data, pa.RecordBatchReader):
        table = data.read_all()
    elif isinstance(data, pa.RecordBatch):
        table = pa.Table.from_batches([data])
    else:
        table = data if isinstance(data, pa.Table) else pa.table(data)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key == b"huggingface"}
    return table.replace_schema_metadata(kept or None)


class _Records:
    """Rows as dictionaries, written as JSON: cells may be of any kind."""

    suffix = ".jsonl"

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self.num_rows = len(rows)

    def _lines(self) -> Iterator[bytes]:
        for row in self._rows:
            named = {str(key): value for key, value in row.items()}
            yield json.dumps(named, default=_plain).encode() + b"\n"

    def sha256(self) -> str:
        """Return a hash of the content."""
        digest = hashlib.sha256()
        for line in self._lines():
            digest.update(line)
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write the rows to a new file."""
        with path.open("wb") as file:
            file.writelines(self._lines())


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> _Table | _Records:
    """Return rows as JSON holds them, or as a table where they hold images, of which JSON knows nothing."""
    if any(_is_image(cell) for row in rows[:_LOOKED_AT] for cell in row.values()):
        return _Table(pa.Table.from_pylist(list(rows)))
    return _Records(rows)


def _is_image(cell: Any) -> bool:
    """Say whether a cell is the bytes of an image, or a list that begins with those of one."""
    if isinstance(cell, (list, tuple)):
        return bool(cell) and not isinstance(cell[0], (list, tuple)) and _is_image(cell[0])
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    return isinstance(content, bytes) and looks_like_image(content)


def _plain(value: Any) -> Any:
    """Return a cell that JSON does not know as one that it does."""
    for method in ("tolist", "to_pylist", "as_py", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)
