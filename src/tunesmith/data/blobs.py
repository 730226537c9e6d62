"""Images that a table holds itself: their bytes go into one file beside the rows, and each cell says where.

Known are columns of bytes, the objects ``{"bytes": ..., "path": ...}`` of Hugging Face ``datasets``, and lists
of either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.image_columns import BLOB, BLOBS
from tunesmith.data.image_files import looks_like_image
from tunesmith.files.operations import perform

_LOOKED_AT = 20


def holds_blobs(kind: pa.DataType) -> bool:
    """Say whether cells of this type can be images: bytes, or an object of bytes and path."""
    if isinstance(kind, pa.BaseExtensionType):
        return holds_blobs(kind.storage_type)
    types = pa.types
    if types.is_struct(kind):
        names = {kind.field(place).name for place in range(kind.num_fields)}
        return "bytes" in names and names <= {"bytes", "path"} and holds_blobs(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def are_images(head: pa.RecordBatch | None, index: int) -> bool:
    """Say whether the first cells of a column are images: nearly all of those that hold anything."""
    if head is None or not holds_blobs(head.schema.field(index).type):
        return False
    cells = [_parts(cell) for cell in _plain(head.column(index).slice(0, _LOOKED_AT)).to_pylist()]
    found = [looks_like_image(content) if content else bool(path) for content, path in cells if content or path]
    return bool(found) and sum(found) > len(found) / 2


def holds_blob_lists(kind: pa.DataType) -> bool:
    """Say whether cells of this type can be lists of images."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list) and holds_blobs(kind.value_type)


def are_image_lists(head: pa.RecordBatch | None, index: int) -> bool:
    """Say whether the first cells of a column are lists of images."""
    if head is None or not holds_blob_lists(head.schema.field(index).type):
        return False
    cells = [cell for cell in head.column(index).slice(0, _LOOKED_AT).to_pylist() if cell]
    found = [
        looks_like_image(content) if content else bool(path) for cell in cells for content, path in map(_parts, cell)
    ]
    return bool(found) and sum(found) > len(found) / 2


class BlobFile:
    """The bytes of a table's images, one after the other, in the file ``images.bin`` beside ``table``."""

    def __init__(self, table: Path) -> None:
        self._path = table.parent / BLOBS
        self._size = 0

    def add(self, cells: pa.Array) -> pa.Array:
        """Write the bytes of some cells; return where each lies, or the path that it holds instead."""
        return pa.array(self._written(_plain(cells).to_pylist()), pa.string())

    def add_lists(self, cells: pa.Array) -> pa.Array:
        """Write the bytes of some cells that are lists; return of each where its images lie, as JSON."""
        lists = cells.to_pylist()
        places = iter(self._written([one for cell in lists for one in cell or ()]))
        found = [None if cell is None else json.dumps([next(places) for _ in cell]) for cell in lists]
        return pa.array(found, pa.string())

    def _written(self, cells: Sequence[Any]) -> list[str | None]:
        """Write the bytes of images; return where each lies, or the path that it has instead."""
        written: list[bytes] = []
        places: list[str | None] = []
        for content, path in map(_parts, cells):
            if content is None:
                places.append(path)
                continue
            places.append(f"{BLOB}{self._size}+{len(content)}")
            written.append(content)
            self._size += len(content)
        self._append(written)
        return places

    def _append(self, contents: Sequence[bytes]) -> None:
        def append() -> None:
            with self._path.open("ab") as file:
                file.writelines(contents)

        perform("write", self._path, append)


def _plain(cells: pa.Array) -> pa.Array:
    return cells.storage if isinstance(cells, pa.ExtensionArray) else cells


def _parts(cell: Any) -> tuple[bytes | None, str | None]:
    """Return the bytes and the path of a cell."""
    if isinstance(cell, dict):
        return cell.get("bytes"), cell.get("path")
    return cell, None
