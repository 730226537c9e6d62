"""Rows on disk, memory-mapped: read column by column or in batches, as they are asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 10_000

_READ_ROWS = 1_000

_NESTED = b"nested"
"""Key of a table's metadata: the columns whose cells are JSON because they were lists or objects in the file."""


def with_nested(schema: pa.Schema, names: Iterable[str]) -> pa.Schema:
    """Return a schema that says which of its text columns hold JSON of what was nested, rather than texts."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key != _NESTED}
    listed = sorted(names)
    if listed:
        kept[_NESTED] = json.dumps(listed).encode()
    return schema.with_metadata(kept or None)


def nested_columns(schema: pa.Schema) -> frozenset[str]:
    """Return the text columns that hold JSON of what was nested in the file."""
    return frozenset(json.loads((schema.metadata or {}).get(_NESTED, b"[]")))


class Column(Sequence[Any]):
    """The cells of one column, read from the file as they are asked for."""

    def __init__(self, cells: pa.ChunkedArray) -> None:
        self.cells = cells
        """The same as Arrow has them."""

    def __len__(self) -> int:
        return len(self.cells)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self.cells[chosen].as_py()
        if chosen.step == 1:
            cells: list[Any] = self.cells.slice(chosen.start, len(chosen)).to_pylist()
            return cells
        return [self.cells[row].as_py() for row in chosen]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _READ_ROWS):
            yield from self.cells.slice(start, _READ_ROWS).to_pylist()


def coded(values: Sequence[Any]) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Return the distinct values, in the order in which they first come, and [N]: which of them each value is.

    Lists are compared by their items; equal values of different types (1 and True) are different values.
    """
    if isinstance(values, Column) and not pa.types.is_nested(values.cells.type):
        encoded = values.cells.combine_chunks().dictionary_encode(null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.unify_dictionaries().combine_chunks()
        # Arrow's own way to NumPy imports pandas, which takes longer than all the rest here.
        return encoded.dictionary.to_pylist(), np.from_dlpack(encoded.indices).astype(np.int64)
    numbers: dict[Any, int] = {}
    distinct: list[Any] = []
    codes = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        key = _key(value)
        if key not in numbers:
            numbers[key] = len(distinct)
            distinct.append(value)
        codes[row] = numbers[key]
    return distinct, codes


def _key(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return type(value), *map(_key, value)
    if value is None or isinstance(value, (str, bool, int)):
        return type(value), value
    return type(value), repr(value)  # numbers that are none equal themselves here, and nothing needs to be hashable


def item_counts(lists: Iterable[Iterable[Any]]) -> Counter[Any]:
    """Return how often each item occurs in all lists of a column."""
    if isinstance(lists, Column) and pa.types.is_list(lists.cells.type):
        counts: Counter[Any] = Counter()
        for chunk in lists.cells.chunks:
            for entry in pc.value_counts(chunk.flatten()).to_pylist():
                counts[entry["values"]] += entry["counts"]
        return counts
    return Counter(item for items in lists for item in items)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows on disk: an Arrow table, memory-mapped, of which only what is asked for is read."""

    table: pa.Table
    fingerprint: str
    """Stands for the rows in the keys of the cache: equal rows in equal order have the same."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in batches(self):
            yield from batch.to_pylist()

    @overload
    def __getitem__(self, index: str) -> Column: ...

    @overload
    def __getitem__(self, index: slice) -> dict[str, list[Any]]: ...

    def __getitem__(self, index: str | slice) -> Column | dict[str, list[Any]]:
        if isinstance(index, str):
            return Column(self.table.column(index))
        return {name: column[index] for name, column in self.columns().items()}

    @property
    def column_names(self) -> list[str]:
        """All columns in their order, ``__row__`` (or ``row``) with them."""
        return list(self.table.column_names)

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of the columns."""
        return self.table.schema

    def columns(self) -> dict[str, Column]:
        """Return all columns by name; nothing is read yet."""
        return {name: self[name] for name in self.column_names}

    def to_dataset(self) -> Dataset:
        """Return the same rows as a data set of Hugging Face ``datasets``."""
        from datasets import Dataset

        return Dataset(self.table)


def open_table(path: Path, fingerprint: str) -> Rows:
    """Memory-map an Arrow stream file."""
    with pa.memory_map(str(path)) as file:
        return Rows(pa.ipc.open_stream(file).read_all(), fingerprint)


def batches(rows: Rows, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield rows in order as record batches of plain columns, at most ``BATCH_ROWS`` rows each."""
    table = rows.table if columns is None else rows.table.select(list(columns))
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        if batch.num_rows:
            yield batch
