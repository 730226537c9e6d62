"""What a model makes of rows before training or beside it: computed once, and kept by what it was computed from.

States below what is trained and the judgement of the untuned model are such columns; a reference's or a teacher's
log-probabilities and hard negatives have the same form. A column has a name, a key that says what its values follow
from, a way to compute them, and a way to join them to what is trained or judged. It is

- computed where nobody has it: by other runs of the same workshop, or by this run before it was interrupted;
- kept in a folder of the run, or of the workshop where that has one: ``described.json`` and, for each array,
  ``NAME.npy`` (with ``NAME.offsets.npy`` where rows have different numbers of values), mapped where it is large;
- deleted when the run ends.

A column that costs more to make durable than to compute again (``is_durable`` false) is taken up after an interruption
only if the machine has been up since: then its files are what was written, whatever became of the process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from tunesmith.data.encoded import Array, Ragged
from tunesmith.engine import ranks
from tunesmith.engine.batch import IntArray
from tunesmith.engine.column_file import ColumnFile
from tunesmith.files.atomic import new_folder, remove_folder, sweep
from tunesmith.files.hashing import hash_json
from tunesmith.files.machine_start import machine_start
from tunesmith.files.manifest import MANIFEST, verify_manifest
from tunesmith.files.ownership import COLUMNS
from tunesmith.files.space import require_space

DESCRIPTION = "described.json"
LARGE = 1 << 20
"""Bytes of a file from which on it is mapped."""

T = TypeVar("T")
Made = TypeVar("Made")


class Once(Protocol):
    """Gives what was made from an equal key before, by whichever run, or makes it."""

    def __call__(self, key: Sequence[Any], make: Callable[[], Made]) -> Made: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """The values of a column."""

    values: Mapping[str, Array | Ragged]
    facts: Mapping[str, Any]
    """What else is known of them, as JSON values."""


class ColumnFolder:
    """An empty folder that a column is put into."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[ColumnFile] = []
        self._outputs: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}

    def put(self, name: str, values: Array | Ragged) -> None:
        """Add an array that is in memory; one of objects holds texts."""
        self._outputs[name] = "array"
        if isinstance(values, Ragged):
            self._outputs[name] = "ragged"
            np.save(self._path / f"{name}.offsets.npy", values.offsets, allow_pickle=False)
            np.save(self._path / f"{name}.npy", values.values, allow_pickle=False)
        elif values.dtype == object:
            self._outputs[name] = values.tolist()
        else:
            np.save(self._path / f"{name}.npy", values, allow_pickle=False)

    def file(self, name: str, offsets: IntArray, *, is_ragged: bool) -> ColumnFile:
        """Add an array that is written batch by batch; ``offsets`` [N + 1] say where each row's values begin.

        Where every row has one value, the array need not be ragged.
        """
        if is_ragged:
            np.save(self._path / f"{name}.offsets.npy", offsets, allow_pickle=False)
        self._outputs[name] = "ragged" if is_ragged else "array"
        self._files.append(ColumnFile(self._path / f"{name}.npy", offsets))
        return self._files[-1]

    def finish(self, key: str) -> None:
        """Write down what the folder holds."""
        for file in self._files:
            file.close()
        sizes = {path.name: path.stat().st_size for path in sorted(self._path.iterdir())}
        described = {**self.facts, "outputs": self._outputs, "key": key, "sizes": sizes, "machine": machine_start()}
        (self._path / DESCRIPTION).write_text(json.dumps(described), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """Something that a model makes of rows."""

    name: str
    """Its folder within the run's, such as ``states/train``."""
    key: Sequence[Any]
    """What its values follow from, on whatever machine, as JSON values: rows, weights, settings."""
    compute: Callable[[ColumnFolder], None]
    join: Callable[[Kept], T]
    """Makes of the values what the run uses: rows with states, a rival's answers."""
    num_bytes: int = 0
    """Disk that it takes, where that is much."""
    is_durable: bool = True
    """Whether each run keeps it safe against a loss of power, so that it can be resumed by itself."""


@dataclass(frozen=True, slots=True)
class ComputedColumns:
    """The columns of a run."""

    folder: Path
    """The run's own."""
    common: Path | None
    """That of the workshop, where all runs keep them instead."""
    machine: Sequence[Any]
    """What decides, besides a column's key, how sums are rounded: runs share what is equal to the bit."""
    once: Once

    def get(self, column: Column[T]) -> T:
        """Return a column joined to what it belongs to, computed now if it never was.

        Of several processes that train one model the first computes it, and the others read it.

        Raises ``InputError`` where the disk has no room for it.
        """
        key = hash_json(list(column.key))
        folder = self._folder_of(column, key)
        with ranks.after_first(f"column/{column.name}/{key}"):
            kept = self.once(["column", column.name, key, *self.machine], lambda: self._obtain(column, folder, key))
        if column.is_durable and not _is_of(folder, key):  # another run computed it
            with new_folder(folder, replace=True) as temporary:
                _put_again(kept, ColumnFolder(temporary), key)
        return column.join(kept)

    def delete(self) -> None:
        """Remove all columns from the run's folder: it has come to its end. Arrays in use stay readable."""
        for kind in COLUMNS:
            remove_folder(self.folder / kind)

    def _folder_of(self, column: Column[Any], key: str) -> Path:
        if self.common is None:
            return self.folder / column.name
        return self.common / column.name / hash_json([key, *self.machine])[:16]

    def _obtain(self, column: Column[Any], folder: Path, key: str) -> Kept:
        if not ranks.is_first():
            assert _is_of(folder, key), "the first rank has left it there, and has looked at it"
            return load_column(folder)
        if _is_of(folder, key) and _is_sound(folder):
            return load_column(folder)
        require_space(folder, column.num_bytes)
        sweep(folder.parent)
        with new_folder(folder, replace=True, durable=column.is_durable) as temporary:
            into = ColumnFolder(temporary)
            column.compute(into)
            into.finish(key)
        return load_column(folder)


def _put_again(kept: Kept, into: ColumnFolder, key: str) -> None:
    for name, values in kept.values.items():
        into.put(name, values)
    into.facts.update(kept.facts)
    into.finish(key)


def _describe(folder: Path) -> dict[str, Any]:
    """Return what a column's folder says of itself; nothing where it says nothing that can be read."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_of(folder: Path, key: str) -> bool:
    return _describe(folder).get("key") == key


def _is_sound(folder: Path) -> bool:
    """Say whether the files are what was written: by their hashes; without these, if nothing can have lost them."""
    if (folder / MANIFEST).exists():
        return not verify_manifest(folder)
    described, start = _describe(folder), machine_start()
    if start is None or described.get("machine") != start:
        return False
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != DESCRIPTION}
    return bool(sizes == described.get("sizes"))


def load_column(folder: Path) -> Kept:
    """Return what a finished ``ColumnFolder`` holds; large arrays are mapped."""
    described = _describe(folder)
    values: dict[str, Array | Ragged] = {}
    for name, kind in described.pop("outputs").items():
        if isinstance(kind, list):
            values[name] = np.array(kind, dtype=object)
            continue
        array = _array(folder / f"{name}.npy")
        offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False) if kind == "ragged" else None
        values[name] = array if offsets is None else Ragged(array, offsets)
    return Kept(values, {name: fact for name, fact in described.items() if name not in ("key", "sizes", "machine")})


def _array(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r" if path.stat().st_size > LARGE else None, allow_pickle=False)
    return array
