"""Columns that name images: paths beside the table, numbers of images in an archive, or the images themselves.

Whatever they hold becomes references (``image_files.py``), under which every later stage finds the bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.encodings import show_name
from tunesmith.data.image_files import ADDRESS, OUTSIDE, WRITTEN_OUT, has_image_suffix, is_address
from tunesmith.data.image_sources import IMAGE, is_archive, members_of, stamp_of
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, open_table
from tunesmith.data.sources import COLUMNAR, DataFile, split_named
from tunesmith.data.tables import TableWriter
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cache_root, cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.types import Problem

BLOB = "blob:"
"""How a reader marks the cell of an image that it wrote into the file beside the rows: ``blob:120+3456``."""
BLOBS = "images.bin"

GIVEN = "given"
"""Where the cache keeps rows that were in memory."""
_LOOKED_AT = 100
_FOLDERS = frozenset(["images", "image", "imgs", "img", "pictures", "photos"])
_UNNAMED = re.compile(r"column_\d+")
_IMAGE_NAMES = re.compile(r"(image|img|picture|photo|file)", re.IGNORECASE)
_MOSTLY = 0.9
"""Share of the first cells of a column that must end as names of images do."""
_COVERED = 0.5
"""Share of the images beside a table that a column of numbers must name to be taken for their names."""

Find = Callable[[Any], str | None]
"""From a cell to a reference; None where the cell is empty."""


def with_images(rows: Rows, file: DataFile, folder: Path) -> tuple[Rows, list[Problem]]:
    """Return the rows of a table, cells that name images made references; the same rows where there are none.

    ``folder`` is where the rows lie in the cache. What the result is kept by holds sizes and times of the images.
    """
    found = _find_column(rows, file, folder)
    if found is None:
        return rows, []
    column, find, words = found
    names = _names(rows, column)
    digest = hashlib.sha256()
    stamped: dict[str, str] = {}
    for cell in rows[column]:
        reference = find(cell) or ""
        if reference not in stamped:
            stamped[reference] = json.dumps(stamp_of(reference))
        digest.update(stamped[reference].encode())
    key = hash_json([reading_version(), rows.fingerprint, column, names, digest.hexdigest()])

    def build(target: Path) -> None:
        fields = [
            pa.field(names.get(field.name, field.name), pa.string() if field.name == column else field.type)
            for field in rows.schema
        ]
        schema = pa.schema(fields, rows.schema.metadata)
        with TableWriter(target / "rows.arrow", schema) as writer:
            for batch in batches(rows):
                cells = [find(cell) for cell in batch.column(column).to_pylist()]
                arrays = [
                    pa.array(cells, pa.string()) if name == column else batch.column(name)
                    for name in batch.schema.names
                ]
                writer.add_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))

    place = cached_folder("rows", key, build, hashes=True)
    note = Problem("note", f"{show_name(file.path)}: column '{names.get(column, column)}' {words}.")
    return open_table(place / "rows.arrow", key), [note] if file.split == "train" else []


def _find_column(rows: Rows, file: DataFile, folder: Path) -> tuple[str, Find, str] | None:
    """Return the column that names images, how its cells are read, and that in words."""
    heads = {name: _head(rows, name) for name in rows.column_names if name != ROW}
    for name, cells in heads.items():
        if file.suffix in COLUMNAR and any(isinstance(cell, str) and cell.startswith(BLOB) for cell in cells):
            return name, lambda cell: of_blob(cell, folder.name, file.path), "holds images"
    by_path = [name for name, cells in heads.items() if cells and sum(map(is_path, cells)) >= _MOSTLY * len(cells)]
    places = Places(file.path, file.split) if by_path or _may_number(heads) else None
    if places is None:
        return None
    if by_path:
        return by_path[0], places.by_path, "names image files"
    if not places.by_stem:
        return None
    numbered = [name for name, cells in heads.items() if cells and all(map(places.has, cells))]
    numbered.sort(key=lambda name: _IMAGE_NAMES.search(name) is None)
    for name in numbered:
        named = {str(cell) for cell in rows[name] if cell is not None}
        if _IMAGE_NAMES.search(name) or len(named) >= _COVERED * len(places.by_stem):
            return name, places.by_name, f"names images of {places.described}"
    return None


def _head(rows: Rows, name: str) -> list[Any]:
    """Return the first cells of a column that are not empty."""
    return [cell for cell in rows[name][:_LOOKED_AT] if cell is not None and str(cell).strip()]


def is_path(cell: Any) -> bool:
    """Say whether a cell is the path of an image, by its ending."""
    is_name = isinstance(cell, str) and len(cell) < 4096 and "\n" not in cell
    return is_name and has_image_suffix(cell) and not is_address(cell)


def _may_number(heads: dict[str, list[Any]]) -> bool:
    """Say whether a column could hold the names of images without their endings."""
    return any(cells and all(_is_short(cell) for cell in cells) for cells in heads.values())


def _is_short(cell: Any) -> bool:
    if isinstance(cell, bool):
        return False
    return isinstance(cell, int) or (isinstance(cell, str) and len(cell) <= 100 and "\n" not in cell)


def of_blob(cell: Any, key: str, table: Path) -> str | None:
    """Return the reference of an image that a reader has written beside the rows of ``key``, or of its path."""
    if not isinstance(cell, str) or not cell.strip():
        return None
    if cell.startswith(BLOB):
        return f"cache:rows/{key}/{BLOBS}!{cell.removeprefix(BLOB)}"
    return below(cell, *_root_of(table))


def _root_of(table: Path) -> tuple[Path, bool]:
    """Return the folder that paths in a table begin in, and whether they may lead out of it.

    They may where the rows were in memory: a program has written them, and they begin where it runs.
    """
    folder = table.absolute().parent
    is_given = folder.is_relative_to(cache_root() / GIVEN)
    return (Path.cwd() if is_given else folder), is_given


def below(cell: str, root: Path, is_free: bool) -> str:
    """Return the path of a cell below ``root``; a mark where it leads out of it and must not, or to the web."""
    if WRITTEN_OUT.match(cell.strip()):
        return cell.strip()
    if is_address(cell.strip()):
        return f"{ADDRESS}{cell.strip()}"
    path = os.path.normpath(root / cell.strip().replace("\\", "/"))
    is_inside = path.startswith(f"{root}{os.sep}")
    return path if is_inside or is_free else f"{OUTSIDE}{cell.strip()}"


class Places:
    """Where the images of a table may be: beside it, in folders or archives whose names speak of no other split."""

    def __init__(self, table: Path, split: str) -> None:
        self._root, self._is_free = root, is_free = _root_of(table)
        fitting = [item for item in _listed(root) if not item.name.startswith(".") and _fits(item, split)]
        fitting = [] if is_free else fitting
        self._folders = [root, *(item for item in fitting if item.is_dir())]
        self._archives = {item: members_of(item) for item in fitting if item.is_file() and is_archive(item)}
        self._members = {item: set(members) for item, members in self._archives.items()}
        self.by_stem: dict[str, str] = {}
        """References of images by their names without ending; of those in archives and in folders of images."""
        for archive, members in self._archives.items():
            self.by_stem |= {Path(member).stem: f"{archive}!{member}" for member in members}
        for folder in self._folders[1:]:
            images = [item for item in _listed(folder) if has_image_suffix(item.name)]
            self.by_stem |= {item.stem: str(item) for item in images}

    @property
    def described(self) -> str:
        """The archives and folders, by name."""
        names = [item.name for item in (*self._archives, *self._folders[1:])]
        return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

    def has(self, cell: Any) -> bool:
        return not isinstance(cell, bool) and str(cell).strip() in self.by_stem

    def by_name(self, cell: Any) -> str | None:
        """Return the image of a name without ending; one that is not there is looked for beside the table later."""
        if cell is None or not str(cell).strip():
            return None
        name = str(cell).strip()
        return self.by_stem.get(name) or below(f"{name}.png", self._root, self._is_free)

    def by_path(self, cell: Any) -> str | None:
        """Return the image of a path, looked for in one place after the other."""
        if not isinstance(cell, str) or not cell.strip():
            return None
        path = cell.strip().replace("\\", "/")
        first = below(path, self._root, self._is_free)
        if first.startswith((OUTSIDE, ADDRESS)) or WRITTEN_OUT.match(first) or Path(first).is_file():
            return first
        for folder in self._folders[1:]:
            if (folder / path).is_file():
                return str(folder / path)
        for archive, members in self._members.items():
            if path in members:
                return f"{archive}!{path}"
        return first


def _listed(folder: Path) -> list[Path]:
    """Return what a folder holds, in order; nothing where nobody may look."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _fits(item: Path, split: str) -> bool:
    """Say whether a folder or archive beside a table may hold images of its split."""
    named = split_named(item.stem)
    return named == split or (named is None and (item.suffix.lower() == ".zip" or item.name.lower() in _FOLDERS))


def _names(rows: Rows, column: str) -> dict[str, str]:
    """Return better names for columns that have none: what an image is asked, and the answer."""
    unnamed = [name for name in rows.column_names if _UNNAMED.fullmatch(name)]
    if column not in unnamed:
        return {}
    found = {column: IMAGE}
    others = [name for name in unnamed if name != column]
    asked = next((name for name in others if _are_questions(_head(rows, name))), None)
    if asked is not None:
        found[asked] = "question"
        rest = [name for name in others if name != asked]
        found |= {rest[0]: "answer"} if len(rest) == 1 else {}
    taken = set(rows.column_names) - set(found)
    return {name: new for name, new in found.items() if new not in taken}


def _are_questions(cells: Sequence[Any]) -> bool:
    marks = [isinstance(cell, str) and cell.rstrip().endswith(("?", "？")) for cell in cells]
    return bool(marks) and sum(marks) >= 0.9 * len(marks)
