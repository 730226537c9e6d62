"""The rows of one of the user's splits on their way: canonical, tidied, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data import split as splitting
from tunesmith.data.augmentation import made_rows
from tunesmith.data.clean import Tally
from tunesmith.data.config import DataConfig
from tunesmith.data.forms import Form, RowKeys, row_keys
from tunesmith.data.records import SPLITS
from tunesmith.data.rows import Rows, batches, open_table
from tunesmith.data.tables import TableWriter
from tunesmith.files.hashing import hash_json
from tunesmith.types import MAX_ROWS_SHOWN

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class TidiedSplit:
    """What is known of a split's N rows, and where each of them goes."""

    name: str
    dataset: Rows
    keys: RowKeys
    labels: list[Any]
    tally: Tally
    places: pa.ChunkedArray
    is_made: npt.NDArray[np.bool_]
    """[N]: whether a row was made of another one, and is there to train on at most."""
    families: npt.NDArray[np.uint64]
    """[N]: a number that a row has in common with those made of it; 0 for rows of files without made rows."""
    sides: npt.NDArray[np.int8]
    """[N]: where each row goes, as an index into ``SPLITS``; -1 for those left out."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many rows were left out, by the reason."""

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        """[N]: the rows that are not left out so far."""
        return self.sides >= 0

    def drop(self, what: str, mask: npt.NDArray[np.bool_], *, are_named: bool = True) -> None:
        """Leave out the rows of ``mask`` that are still in, and count them.

        Rows left out on purpose are not named: nobody needs to look for them.
        """
        mask = mask & self.keep
        if mask.any():
            self.tally.counts[what] = self.left_out[what] = int(mask.sum())
            first = np.flatnonzero(mask)[: MAX_ROWS_SHOWN if are_named else 0]
            self.tally.places[what] = [str(self.places[int(row)]) for row in first]
            self.sides[mask] = -1


def tidy(name: str, dataset: Rows, form: Form, config: DataConfig, *, group: str | None, folder: Path) -> TidiedSplit:
    """Write the split's canonical, tidied rows to a temporary table and learn each row's keys and label."""
    tally = Tally()
    path = folder / f"tidy-{name}.arrow"
    keys: list[RowKeys] = []
    labels: list[Any] = []
    shared: dict[str, Any] = {}
    group_values = batches(dataset, [group]) if group is not None and group in dataset.column_names else None
    is_made, families = _made_of(dataset)
    with TableWriter(path, form.schema) as writer:
        for batch in form.batches(dataset, config.clean, tally):
            writer.add_batch(batch)
            values = next(group_values).column(0).to_pylist() if group_values is not None else None
            if values is not None and group is not None:
                values = form.group_values(group, values, batch)
            keys.append(row_keys(batch, form, values))
            # Few distinct values: rows share one object each.
            labels.extend(shared.setdefault(str(value), value) for value in form.summaries(batch))
    tidied = open_table(path, hash_json([name, config.model_dump(mode="json")]))
    num_rows = writer.num_rows
    return TidiedSplit(
        name,
        tidied,
        RowKeys.join(keys),
        labels or [None] * num_rows,
        tally,
        tidied.table.column("row"),
        is_made,
        families,
        np.full(num_rows, SPLITS.index(name), dtype=np.int8),
    )


def _made_of(dataset: Rows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint64]]:
    """Return which rows of a file were made of others, and the number that they have in common with their sources."""
    size = len(dataset)
    if not made_rows.has_made_rows(dataset.column_names):
        return np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.uint64)
    is_made = [bool(str(way or "").strip()) for way in dataset[made_rows.MADE_BY]]
    families = [splitting.key_of(str(source)) if source else 0 for source in dataset[made_rows.MADE_FROM]]
    return np.array(is_made, dtype=np.bool_), np.array(families, dtype=np.uint64)
