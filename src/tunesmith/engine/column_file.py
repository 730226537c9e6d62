"""An array of what a model makes of rows, written to disk as it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.engine.batch import IntArray, states_to_numpy
from tunesmith.files.operations import reserve

if TYPE_CHECKING:
    import torch


class ColumnFile:
    """A file of values of rows, written batch by batch in whatever order rows come; mapped, never whole in memory.

    Shapes: N rows, T values of all of them, D numbers a value.
    """

    def __init__(self, path: Path, offsets: IntArray) -> None:
        self._path = path
        self._offsets = offsets
        """[N + 1]: where each row's values begin; the last entry is T."""
        self._file: np.memmap[Any, Any] | None = None

    def write(self, values_SD: torch.Tensor, rows: IntArray) -> None:
        """Write the values of ``rows``, which follow each other in the order of ``rows``.

        Raises ``RunError`` where the disk has no room for all of the file.
        """
        values = states_to_numpy(values_SD)
        if self._file is None:
            shape = (int(self._offsets[-1]), *values.shape[1:])
            self._file = np.lib.format.open_memmap(self._path, mode="w+", dtype=values.dtype, shape=shape)
            reserve(self._path)
        starts, lengths = self._offsets[rows], self._offsets[rows + 1] - self._offsets[rows]
        before = np.cumsum(lengths) - lengths
        self._file[np.repeat(starts - before, lengths) + np.arange(len(values))] = values

    def close(self) -> None:
        """Hand all that was written to the system."""
        if self._file is not None:
            self._file.flush()
        self._file = None
