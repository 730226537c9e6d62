"""Label cells to label names: the user's ``1``, ``1.0``, ``"1"``, ``True``, ``["a", "b"]`` or ``"a|b"``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tunesmith.data.cells import list_separator
from tunesmith.data.rows import coded

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.0)?")

DELIMITERS = ("|", ";", ",")
"""What may stand between several labels in one cell, the surest sign first."""


def label_name(value: Any) -> str:
    """Return the name of one label; empty for a missing one.

    Numbers and booleans of any library become text: 1, 1.0, ``np.int64(1)`` and ``"1"`` are
    the label ``1``; ``True`` is ``true``. Text loses the white space around it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_list(cell: Any) -> bool:
    """Say whether a cell holds several labels as a list."""
    return isinstance(cell, (list, tuple, set, frozenset, np.ndarray))


def split_cell(cell: Any, delimiter: str | None) -> tuple[str, ...]:
    """Return the names of the labels in a cell, each once, in their order."""
    if is_list(cell):
        names = [label_name(item) for item in cell]
    elif delimiter and isinstance(cell, str):
        names = [part.strip() for part in cell.split(delimiter)]
    else:
        names = [label_name(cell)]
    return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True)
class LabelCells:
    """The cells of a label column: what each distinct cell says, and which of them stands in each row."""

    cells: list[Any]
    """[D]: the distinct cells, in the order in which they first come."""
    codes: npt.NDArray[np.int64]
    """[N]: the distinct cell of each row."""

    @classmethod
    def of(cls, column: Sequence[Any]) -> Self:
        return cls(*coded(column))

    @property
    def counts(self) -> list[int]:
        """[D]: rows of each distinct cell."""
        counts: list[int] = np.bincount(self.codes, minlength=len(self.cells)).tolist()
        return counts

    def split(self, delimiter: str | None, known: Sequence[str] | None = None) -> list[tuple[str, ...]]:
        """[D]: the names of the labels in each distinct cell, as the ``known`` ones are written."""
        found = [split_cell(cell, delimiter) for cell in self.cells]
        if known is None:
            return found
        align = Alignment(known)
        return [tuple(dict.fromkeys(map(align.name, names))) for names in found]

    def rows_where(self, holds: Sequence[bool]) -> list[int]:
        """Return the rows whose cell is one of those for which ``holds`` [D] is true."""
        chosen = np.array([*holds, False])  # of no cells, no dtype could be told
        rows: list[int] = np.flatnonzero(chosen[self.codes]).tolist()
        return rows

    def rows_of(self, cells: Sequence[int]) -> list[int]:
        """Return the rows in which one of these distinct cells stands."""
        order, starts = self._sorted
        rows: list[int] = np.sort(np.concatenate([order[starts[cell] : starts[cell + 1]] for cell in cells])).tolist()
        return rows

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The rows by cell, and where each cell's begin."""
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.counts)])
        return np.argsort(self.codes, kind="stable"), starts

    def name_counts(self, delimiter: str | None, known: Sequence[str] | None = None) -> Counter[str]:
        """Return how many rows have each label."""
        found: Counter[str] = Counter()
        for names, count in zip(self.split(delimiter, known), self.counts, strict=True):
            for name in names:
                found[name] += count
        return found


_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


class Alignment:
    """The known label that is meant by a name which a file of another kind writes otherwise.

    ``True`` of one file is ``true`` or ``1`` of another, and ``2.0`` (of a table with gaps) is ``2``. Nothing else is
    taken for the same: ``4.1`` and ``4.10`` are two labels, ``1E2`` and ``100`` too.
    """

    def __init__(self, known: Sequence[str]) -> None:
        self._known = frozenset(known)
        truths = [_TRUTHS.get(name.lower()) for name in known]
        are_truths = None not in truths and len(set(truths)) == len(truths)
        self._by_truth = dict(zip(truths, known, strict=True)) if are_truths else {}

    def name(self, name: str) -> str:
        """Return the known label, or the name itself where none is meant."""
        if name in self._known:
            return name
        truth = _TRUTHS.get(name.lower())
        if truth is not None and truth in self._by_truth:
            return self._by_truth[truth]
        other = name.removesuffix(".0") if name.endswith(".0") else f"{name}.0"
        return other if other in self._known and _WHOLE.fullmatch(name) else name


def form_of_cells(
    cells: LabelCells, known: Sequence[str] | None, multi_label: bool | None, delimiter: str | None
) -> tuple[bool, str | None]:
    """Return whether rows hold several labels, and what separates them, as far as it is not given."""
    if multi_label is False:
        return False, None
    lists = any(is_list(cell) for cell in cells.cells)
    if delimiter is None and not lists:
        delimiter = _find_delimiter(cells, known, certain=multi_label is True)
    return bool(multi_label or lists or delimiter), delimiter


def _find_delimiter(label_cells: LabelCells, known: Sequence[str] | None, *, certain: bool) -> str | None:
    """Return what separates several labels within a cell, or None when cells hold one label each.

    With ``known`` labels, a delimiter is one that cuts some cell, not itself a label, into
    labels. ``certain`` (the user said that there are several) believes the one that most
    cells contain. Otherwise the parts have to recur as ``list_separator`` demands.
    """
    texts: Counter[str] = Counter()
    for cell, count in zip(label_cells.cells, label_cells.counts, strict=True):
        if isinstance(cell, str) and cell.strip():
            texts[cell.strip()] += count
    if known is not None:
        return next((mark for mark in DELIMITERS if _cuts_into(texts, mark, frozenset(known))), None)
    if certain:
        found = {mark: sum(count for text, count in texts.items() if mark in text) for mark in DELIMITERS}
        best = max(DELIMITERS, key=lambda mark: found[mark])
        return best if found[best] else None
    return list_separator(texts) or None


def _cuts_into(cells: Iterable[str], mark: str, known: frozenset[str]) -> bool:
    return any(mark in cell and cell not in known and known.issuperset(split_cell(cell, mark)) for cell in cells)


def sorted_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return distinct names in order: by value when all are numbers, else alphabetically."""
    distinct = set(names)
    if all(NUMBER.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (float(name), name)))
    return tuple(sorted(distinct))
