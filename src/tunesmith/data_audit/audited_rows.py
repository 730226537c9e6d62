"""The rows of all splits under one number each, as their task sees them: streamed once, or some of them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunesmith.data.clean import Tally
from tunesmith.data.config import UNTOUCHED
from tunesmith.data.forms import Form, Wishes
from tunesmith.data.records import ROW, SPLITS
from tunesmith.data.rows import BATCH_ROWS, Rows
from tunesmith.run.rows import FoundRows
from tunesmith.types import InputError

IntArray = npt.NDArray[np.int64]


class AuditedRows:
    """N rows of several splits, the training rows first, each with a number from 0 on."""

    def __init__(self, found: FoundRows) -> None:
        self.found = found
        columns = {choice.column for choice in found.choices}
        self.splits: dict[str, Rows] = {
            name: found.raw.splits[name]
            for name in SPLITS
            if name in found.raw.splits and (name == "train" or columns <= set(found.raw.splits[name].column_names))
        }
        sizes = [len(rows) for rows in self.splits.values()]
        self.starts: IntArray = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        wishes = Wishes(scheme=found.data.tag_scheme, offsets=found.data.span_offsets)
        self.form: Form = found.form.of(self.splits.values(), found.choices, wishes)[0]
        if not self.form.texts or "pixels" in self.form.schema.names:
            raise InputError(
                f"{found.data.path} holds no texts to look at (task {found.task.name}).",
                "Audit a file of texts; images are looked at by 'tunesmith data inspect'.",
            )

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def num_train(self) -> int:
        """How many rows are there to be trained on; they have the first numbers."""
        return int(self.starts[1])

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield all rows as canonical batches, untidied, each with the number of its first row."""
        first = 0
        for rows in self.splits.values():
            for batch in self.form.batches(rows, UNTOUCHED, Tally()):
                yield first, batch
                first += batch.num_rows

    def texts_of(self, batch: pa.RecordBatch) -> list[str]:
        """Return the texts of each row of a canonical batch as one."""
        columns = [batch.column(role).to_pylist() for role in self.form.texts]
        return ["\n".join(text or "" for text in row) for row in zip(*columns, strict=True)]

    def take(self, rows: IntArray) -> dict[str, list[Any]]:
        """Return the canonical columns of some rows (in rising order), as a task reads them."""
        taken: dict[str, list[Any]] = {name: [] for name in self.form.schema.names}
        for _, table in self._taken(rows, self._sources):
            for batch in table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS):
                made = self.form.make_batch(batch, UNTOUCHED, Tally())
                for name in taken:
                    taken[name] += made.column(name).to_pylist()
        return taken

    def read(self, rows: IntArray) -> list[str]:
        """Return the texts of some rows, in rising order, each row's as one."""
        taken = self.take(rows)
        return [
            "\n".join(text or "" for text in row)
            for row in zip(*(taken[role] for role in self.form.texts), strict=True)
        ]

    def cells(self, rows: IntArray, column: str) -> list[Any]:
        """Return the user's own cells of a column, of some rows in rising order; None where a split lacks it."""
        cells: list[Any] = []
        for split, table in self._taken(rows, None):
            has_column = column in self.splits[split].column_names
            cells += table.column(column).to_pylist() if has_column else [None] * table.num_rows
        return cells

    def places(self, rows: IntArray) -> list[str]:
        """Return where some rows stand in the user's files, in the order of ``rows``."""
        order = np.argsort(rows, kind="stable")
        named = [str(place) for place in self.cells(rows[order], ROW)]
        places = [""] * len(rows)
        for position, place in zip(order.tolist(), named, strict=True):
            places[position] = place
        return places

    def sides(self, rows: IntArray) -> npt.NDArray[np.int64]:
        """[R]: the split of each row, as a place among ``splits``."""
        return (np.searchsorted(self.starts, rows, side="right") - 1).astype(np.int64)

    def split_names(self) -> Sequence[str]:
        """Return the splits in their order."""
        return list(self.splits)

    @property
    def _sources(self) -> list[str]:
        columns: Mapping[str, tuple[str, ...]] = self.form.columns
        return [*dict.fromkeys(name for names in columns.values() for name in names), ROW]

    def _taken(self, rows: IntArray, columns: list[str] | None) -> Iterator[tuple[str, pa.Table]]:
        for side, (split, dataset) in enumerate(self.splits.items()):
            inside = rows[(rows >= self.starts[side]) & (rows < self.starts[side + 1])] - self.starts[side]
            if len(inside):
                table = dataset.table if columns is None else dataset.table.select(columns)
                yield split, table.take(pa.array(inside))
