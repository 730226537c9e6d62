"""Which group each judged row is of: by any column of the files that the rows came from.

Rows that a run is judged on carry where they stand (``reviews.csv:17``), and so do the rows of the files with all
their columns: the one finds the other.

Shapes: N judged rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.config.base import nearest
from tunesmith.data.config import DataConfig
from tunesmith.data.readers import read
from tunesmith.data.records import ROW
from tunesmith.types import InputError

MOST_NUMBERS = 12
"""A column of more distinct numbers is cut at its quartiles."""
CROSSED = "+"
NOTHING = "(none)"
"""The group of rows whose cell is empty."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """The groups that a column makes of some rows."""

    column: str
    names: tuple[str, ...]
    of_row: npt.NDArray[np.int64]
    """[N]: which of ``names`` each row is of."""

    def sizes(self) -> npt.NDArray[np.int64]:
        """Return the number of rows of each group."""
        return np.bincount(self.of_row, minlength=len(self.names)).astype(np.int64)


def groupings(config: DataConfig, data: str | None, places: Sequence[str], wanted: Sequence[str]) -> list[Grouping]:
    """Return the groups of the rows that stand at ``places`` (``file:line``), one grouping for each of ``wanted``.

    Args:
        config: How the run's data is read.
        data: The file that the rows are from, instead of the run's data.
        places: N places.
        wanted: Names of columns; several with ``+`` between them are crossed.

    Raises:
        InputError: There is no such column, or the rows cannot be found in the files again.
    """
    if data is None and config.mixture:
        raise InputError(
            "The run was trained on a mixture, whose sets have columns of their own.", "Give rows as --data FILE."
        )
    own = config if data is None else config.changed(path=data, validation=None, test=None, bad_rows="quarantine")
    cells = _cells(own, places, sorted({name for one in wanted for name in one.split(CROSSED)}))
    return [_grouping(one, [cells[name] for name in one.split(CROSSED)]) for one in dict.fromkeys(wanted)]


def _cells(config: DataConfig, places: Sequence[str], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the cells of columns at ``places``."""
    raw = read(config)
    known = list(dict.fromkeys(name for rows in raw.splits.values() for name in rows.column_names if name != ROW))
    if unknown := [name for name in names if name not in known]:
        hint = nearest(unknown[0], known)
        raise InputError(
            f"The data has no column {', '.join(map(repr, unknown))} to take groups from. {hint}".rstrip(),
            f"Columns: {', '.join(known)}.",
        )
    wanted = set(places)
    found: dict[str, tuple[Any, ...]] = {}
    for rows in raw.splits.values():
        columns = [rows[name] if name in rows.column_names else [None] * len(rows) for name in names]
        for place, *cells in zip(map(str, rows[ROW]), *columns, strict=True):
            if place not in wanted:
                continue
            if found.setdefault(place, tuple(cells)) != tuple(cells):
                raise InputError(
                    f"Two rows of the data are called {place}, and differ in {', '.join(names)}.",
                    "Give files of different names.",
                )
    if missing := [place for place in places if place not in found]:
        raise InputError(
            f"{len(missing)} of {len(places)} rows are not in the files any more, {missing[0]} among them.",
            "Bring the files back as they were, or give rows as --data FILE.",
        )
    return {name: [found[place][number] for place in places] for number, name in enumerate(names)}


def _grouping(column: str, cells: Sequence[Sequence[Any]]) -> Grouping:
    parts = [_named(values) for values in cells]
    of_row = [" · ".join(names) for names in zip(*parts, strict=True)]
    names = _sorted(set(of_row))
    number = {name: place for place, name in enumerate(names)}
    return Grouping(column, tuple(names), np.array([number[name] for name in of_row], dtype=np.int64))


def _sorted(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (name == NOTHING, name))


def _named(values: Sequence[Any]) -> list[str]:
    """Return the name of each cell's group: what is written, or, of many different numbers, the quarter it is in."""
    numbers = [value for value in map(_number, values) if value is not None]
    filled = [value for value in values if value is not None and str(value).strip()]
    if len(numbers) == len(filled) and len(set(numbers)) > MOST_NUMBERS:
        return _quarters([_number(value) for value in values], np.array(numbers))
    return [NOTHING if value is None or not str(value).strip() else str(value).strip() for value in values]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def _quarters(values: Sequence[float | None], numbers: npt.NDArray[np.float64]) -> list[str]:
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    shown = [f"{edge:g}" for edge in edges]
    names = [f"up to {shown[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(shown))]
    names.append(f"above {shown[-1]}")
    return [NOTHING if value is None else names[int(np.searchsorted(edges, value, side="left"))] for value in values]
