"""Images that rows list, or show within their messages: what names one becomes a reference.

Columns that name one image a row are ``image_columns.py``'s. Here a row has any number of them: a column of lists
(paths, addresses of images written out, objects of bytes and path), or messages with parts that are images. Whatever
form these have, they become ``{"type": "image", "image": reference}``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.encodings import show_name
from tunesmith.data.image_columns import BLOB, Places, is_path, of_blob
from tunesmith.data.image_files import WRITTEN_OUT
from tunesmith.data.image_sources import stamp_of
from tunesmith.data.message_cells import MisfitError, decode_cell
from tunesmith.data.messages import image_of, is_image_part
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, open_table
from tunesmith.data.sources import DataFile
from tunesmith.data.tables import TableWriter
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.types import Problem

SHOWN = '{"type": "image"'
"""How a part that is an image begins in the cells written here."""
_LOOKED_AT = 100
_MARK = '"image'
"""Stands in every cell of messages that hold images."""
_MOSTLY = 0.9

Rewrite = Callable[[Any], Any]
"""From a cell to the same with references."""


def with_image_lists(rows: Rows, file: DataFile, folder: Path) -> tuple[Rows, list[Problem]]:
    """Return the rows of a table, what names images in lists and messages made references; the same where none does.

    ``folder`` is where the rows lie in the cache. What the result is kept by holds sizes and times of the images.
    """
    lists = [name for name in rows.column_names if name != ROW and _lists_images(rows, name)]
    messages = [name for name in rows.column_names if name not in (ROW, *lists) and _shows_images(rows, name)]
    if not lists and not messages:
        return rows, []
    source = _Source(file, folder)
    rewrites: dict[str, Rewrite] = dict.fromkeys(lists, source.in_list) | dict.fromkeys(messages, source.in_messages)
    for batch in batches(rows, list(rewrites)):  # what is rewritten follows from where images are found now
        for name, rewrite in rewrites.items():
            for cell in batch.column(name).to_pylist():
                rewrite(cell)
    digest = hashlib.sha256(json.dumps(sorted(source.stamps.items())).encode())
    key = hash_json([reading_version(), rows.fingerprint, sorted(rewrites), digest.hexdigest()])

    def build(target: Path) -> None:
        with TableWriter(target / "rows.arrow", rows.schema) as writer:
            for batch in batches(rows):
                arrays = [
                    pa.array(map(rewrites[field.name], batch.column(field.name).to_pylist()), field.type)
                    if field.name in rewrites
                    else batch.column(field.name)
                    for field in batch.schema
                ]
                writer.add_batch(pa.RecordBatch.from_arrays(arrays, schema=rows.schema))

    place = cached_folder("rows", key, build, hashes=True)
    named = " and ".join(f"'{name}'" for name in rewrites)
    note = Problem("note", f"{show_name(file.path)}: column {named} shows images ({len(source.stamps):,} different).")
    return open_table(place / "rows.arrow", key), [note] if file.split == "train" else []


class _Source:
    """Where the images of a file's rows are."""

    def __init__(self, file: DataFile, folder: Path) -> None:
        self._table, self._key = file.path, folder.name
        self._places = Places(file.path, file.split)
        self.stamps: dict[str, Any] = {}
        """By reference, what changes when the image does; by hash where the rows hold the image itself."""

    def reference(self, value: str | None) -> str | None:
        """Return the reference of what a cell says of one image."""
        if value is None or not value.strip():
            return None
        value = value.strip().removeprefix("file://")
        found = of_blob(value, self._key, self._table) if value.startswith(BLOB) else self._places.by_path(value)
        if found is None:
            return None
        is_written = WRITTEN_OUT.match(found) is not None
        known = hashlib.sha256(found.encode()).hexdigest() if is_written else found  # such images are large
        if known not in self.stamps:
            self.stamps[known] = None if is_written else stamp_of(found)
        return found

    def in_list(self, cell: Any) -> Any:
        """Return a list of references, as text where the cell was text."""
        values = _listed(cell)
        if values is None:
            return cell
        found = [self.reference(_named(value)) for value in values]
        return json.dumps(found, ensure_ascii=False) if isinstance(cell, str) else found

    def in_messages(self, cell: Any) -> Any:
        """Return messages whose parts that are images have references."""
        if not isinstance(cell, str) or _MARK not in cell:
            return cell
        try:
            return json.dumps(self._rewritten(decode_cell(cell)), ensure_ascii=False)
        except (MisfitError, RecursionError):
            return cell

    def _rewritten(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._rewritten(item) for item in value]
        if not isinstance(value, dict):
            return value
        if is_image_part(value):
            found = self.reference(_named(value))
            return {"type": "image"} if found is None else {"type": "image", "image": found}
        return {key: self._rewritten(item) for key, item in value.items()}


def _named(value: Any) -> str | None:
    """Return what an entry says of its image; of one that is none of the known forms, its text, which names none."""
    try:
        return image_of(value)
    except MisfitError:
        return json.dumps(value, ensure_ascii=False)[:200]


def _listed(cell: Any) -> list[Any] | None:
    if isinstance(cell, str):
        try:
            cell = decode_cell(cell) if cell.lstrip().startswith("[") else None
        except (MisfitError, RecursionError):
            return None
    return cell if isinstance(cell, list) else None


def _lists_images(rows: Rows, name: str) -> bool:
    """Say whether a column's cells are lists of what names images."""
    kind = rows.schema.field(name).type
    if not (pa.types.is_string(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type))):
        return False
    named: list[bool] = []
    for cell in _head(rows, name):
        values = _listed(cell)
        if values is None:
            return False
        named += [_names_image(value) for value in values]
    return bool(named) and sum(named) >= _MOSTLY * len(named)


def _names_image(value: Any) -> bool:
    named = _named(value)
    return named is not None and (named.startswith(BLOB) or WRITTEN_OUT.match(named) is not None or is_path(named))


def _shows_images(rows: Rows, name: str) -> bool:
    """Say whether some cell of a column holds messages with an image among their parts."""
    if not pa.types.is_string(rows.schema.field(name).type):
        return False
    if not any(cell.lstrip()[:1] in "[{" for cell in _head(rows, name)):
        return False  # texts, of which there may be gigabytes
    cells = rows.table.column(name)
    for cell in cells.filter(pc.fill_null(pc.match_substring(cells, _MARK), False)).slice(0, _LOOKED_AT).to_pylist():
        try:
            if cell.lstrip()[:1] in "[{" and any(map(is_image_part, _parts(decode_cell(cell)))):
                return True
        except (MisfitError, RecursionError):
            continue
    return False


def _parts(value: Any) -> Iterator[Any]:
    """Yield the parts of what turns say."""
    for turn in value if isinstance(value, list) else [value]:
        if isinstance(turn, dict):
            if isinstance(turn.get("messages"), list):
                yield from _parts(turn["messages"])
            for content in turn.values():
                if isinstance(content, list):
                    yield from content


def _head(rows: Rows, name: str) -> list[Any]:
    return [cell for cell in rows[name][:_LOOKED_AT] if cell is not None and cell != [] and str(cell).strip()]
