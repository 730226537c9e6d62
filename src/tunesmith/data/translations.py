"""Rows whose cells hold a text in several languages at once: an object ``{"en": ..., "de": ...}`` in one column.

Data sets for translation come so from ``datasets``. Such a column becomes one column a language.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.languages import LANGUAGE_CODES
from tunesmith.data.rows import Rows, batches, nested_columns, open_table, with_nested
from tunesmith.data.tables import TableWriter
from tunesmith.files.operations import rename

NAMES = frozenset({"translation", "translations"})
_LOOKED_AT = 100


def spread_languages(path: Path) -> None:
    """Give every language a column of its own where a table has a column of translations; else leave it as it is."""
    rows = open_table(path, "")
    nested = nested_columns(rows.schema)
    column = next((name for name in rows.column_names if name.strip().lower() in NAMES and name in nested), None)
    languages = [] if column is None else _languages(rows, column)
    if column is None or not languages or set(languages) & set(rows.column_names):
        return
    kept = [field for field in rows.schema if field.name != column]
    fields = [*(pa.field(language, pa.string()) for language in languages), *kept]
    schema = with_nested(pa.schema(fields, rows.schema.metadata), nested - {column})
    target = path.with_name(f"{path.name}.languages")
    with TableWriter(target, schema) as writer:
        for batch in batches(rows):
            objects = [_object(cell) for cell in batch.column(column).to_pylist()]
            texts = [[_text(one.get(language)) for one in objects] for language in languages]
            arrays = [pa.array(column, pa.string()) for column in texts]
            arrays += [batch.column(field.name) for field in kept]
            writer.add_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    del rows
    rename(target, path)


def _languages(rows: Rows, column: str) -> list[str]:
    """Return the languages of the first objects, in their order; none where they are no translations."""
    found = [_object(cell) for cell in rows[column][:_LOOKED_AT] if cell is not None]
    names = list(dict.fromkeys(name for one in found for name in one))
    are_languages = all(name.strip().lower().replace("-", "_")[:5].rstrip("_") in LANGUAGE_CODES for name in names)
    are_whole = bool(found) and all(len(one) == len(names) for one in found)
    return names if len(names) >= 2 and are_languages and are_whole else []


def _object(cell: Any) -> dict[str, Any]:
    try:
        value = json.loads(cell) if isinstance(cell, str) else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
