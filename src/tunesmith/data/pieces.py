"""Pieces of one split: files of the same columns, whose rows come one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.forms import as_text, plain_text
from tunesmith.data.rows import Rows, nested_columns, with_nested
from tunesmith.files.hashing import hash_json
from tunesmith.types import InputError


def join_pieces(split: str, pieces: Mapping[str, Rows]) -> Rows:
    """Return the rows of several files, by their names, as one table.

    A column that looks like numbers in one piece and like words in another is text in all, as it is within a file.
    Raises ``InputError`` for pieces of other columns.
    """
    tables = {name: rows.table for name, rows in pieces.items()}
    first = next(iter(tables.values()))
    if any(set(table.column_names) != set(first.column_names) for table in tables.values()):
        described = "; ".join(f"{name}: {', '.join(table.column_names)}" for name, table in tables.items())
        raise InputError(
            f"The pieces of {split} have different columns ({described}).", "Give them one form, or join them."
        )
    nested = frozenset[str]().union(*(nested_columns(table.schema) for table in tables.values()))
    columns = {name: _alike(name, tables.values(), is_nested=name in nested) for name in first.column_names}
    joined = pa.table(columns)
    # Not the files' content alone: how each was read is in its own key.
    fingerprint = hash_json([rows.fingerprint for rows in pieces.values()])
    return Rows(joined.replace_schema_metadata(with_nested(joined.schema, nested).metadata), fingerprint)


def _alike(name: str, tables: Iterable[pa.Table], *, is_nested: bool) -> pa.ChunkedArray:
    """Return a column of all pieces in one type."""
    parts: list[pa.ChunkedArray] = []
    for table in tables:
        part = table.column(name)
        if is_nested and name not in nested_columns(table.schema):
            part = _as_json(part)
        parts.append(part)
    filled = [part for part in parts if part.null_count < len(part)]
    kind = _common([part.type for part in filled or parts])
    if kind == pa.float64() and not all(map(_are_exact, parts)):
        kind = pa.string()
    chunks = [chunk if chunk.type == kind else _cast(chunk, kind) for part in parts for chunk in part.chunks]
    return pa.chunked_array(chunks, kind)


def _common(kinds: Iterable[pa.DataType]) -> pa.DataType:
    """Return the type that holds the values of all of these: numbers as numbers, lists as lists, else text."""
    distinct = list(dict.fromkeys(kinds))
    if len(distinct) == 1:
        return distinct[0]
    if set(distinct) == {pa.int64(), pa.float64()}:
        return pa.float64()
    if all(map(pa.types.is_list, distinct)):
        return pa.list_(_common([kind.value_type for kind in distinct]))
    return pa.string()


def _are_exact(numbers: pa.ChunkedArray) -> bool:
    """Say whether numbers stay what they are as doubles."""
    largest = 2**53
    if not pa.types.is_integer(numbers.type):
        return True
    return bool(
        pc.all(pc.and_(pc.less_equal(numbers, largest), pc.greater_equal(numbers, -largest)), min_count=0).as_py()
    )


def _cast(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    if cells.null_count == len(cells):
        return pa.nulls(len(cells), kind)
    if pa.types.is_list(kind):
        convert = plain_text if pa.types.is_string(kind.value_type) else float
        lists = ([None if item is None else convert(item) for item in cell or ()] for cell in cells.to_pylist())
        return pc.if_else(cells.is_null(), pa.scalar(None, kind), pa.array(lists, kind))
    return as_text(cells) if kind == pa.string() else pc.cast(cells, kind)


def _as_json(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the cells of a piece in which nothing is nested as JSON, as they are in a piece where something is."""
    if not pa.types.is_string(cells.type):
        return pa.chunked_array([as_text(chunk) for chunk in cells.chunks], pa.string())
    written = [
        pa.array(
            [None if text is None else json.dumps(text, ensure_ascii=False) for text in chunk.to_pylist()], pa.string()
        )
        for chunk in cells.chunks
    ]
    return pa.chunked_array(written, pa.string())
