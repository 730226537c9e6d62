"""Texts that belong together: an anchor, what is near it, what is not, and how near; the form of embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data import cells
from tunesmith.data.clean import BoolArray, Tally, is_blank, tidy_parts, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text, plain_text, require_columns
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice, Problem

ANCHOR, POSITIVE, NEGATIVE, SCORE = "anchor", "positive", "negative", "score"
MOST_NEGATIVES = 32
"""Columns of negatives that a row may have."""
FURTHER_NEGATIVES = tuple(f"{NEGATIVE}_{number}" for number in range(2, MOST_NEGATIVES + 1))
"""The roles of the second column of negatives and those after it."""

_NO_SCORE = "score"


class RelatedTexts(Form):
    """Pairs of texts, with a score or with others that the anchor is far from."""

    truths: ClassVar[tuple[str, ...]] = (POSITIVE, NEGATIVE, SCORE, *FURTHER_NEGATIVES)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit(_NO_SCORE, "their score is missing or no finite number.", recorded="without a score"),
    )

    def __init__(self, columns: Columns) -> None:
        texts = [role for role in (ANCHOR, POSITIVE) if role in columns]
        fields = [(role, pa.string()) for role in texts]
        self._negatives = tuple(name for role, names in columns.items() if role.startswith(NEGATIVE) for name in names)
        if self._negatives:
            fields.append((NEGATIVE, pa.list_(pa.string())))
        if SCORE in columns:
            fields.append((SCORE, pa.float64()))
            self.fitting = SCORE
        super().__init__(columns, fields, texts)
        self._num_not_far = 0

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        """Learn nothing: texts are read as they stand, and scores as numbers."""
        del datasets, wishes
        return cls(columns), []

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return the columns to predict on; a positive alone may be asked about, too."""
        columns = column_names(dataset)
        if len(choices) == 1 and choices[0].role in cls.truths:
            if len(columns) == 1:
                return [replace(choices[0], column=columns[0])]
            require_columns(path, columns, choices)
            return list(choices)
        return super().choices_for(path, dataset, choices)

    @property
    def label(self) -> str | None:
        return SCORE if SCORE in self.columns else None

    @property
    def reads_beginning(self) -> bool:
        return True

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        rows = batch.column(ROW)
        arrays = [tidy_text(as_text(batch.column(self.columns[role][0])), clean, tally, rows) for role in self.texts]
        if self._negatives:
            arrays.append(self._far(batch, arrays, clean, tally))
        if SCORE in self.columns:
            arrays.append(_scores(batch.column(self.columns[SCORE][0]), tally, rows))
        return pa.RecordBatch.from_arrays([*arrays, rows], schema=self.schema)

    def _far(self, batch: pa.RecordBatch, texts: Sequence[pa.Array], clean: CleanConfig, tally: Tally) -> pa.Array:
        """Return each row's negatives, those left out that are blank or one of the row's own texts."""
        given = [_lists(batch.column(name)) for name in self._negatives]
        lists = [[text for of_row in lists for text in of_row] for lists in zip(*given, strict=True)]
        tidied = tidy_parts(lists, clean, tally, batch.column(ROW))
        own = list(zip(*(column.to_pylist() for column in texts), strict=True)) or [()] * batch.num_rows
        kept = []
        for of_row, near in zip(tidied, own, strict=True):
            is_empty = is_blank(pa.array(of_row, pa.string()))
            far = [text for text, empty in zip(of_row, is_empty, strict=True) if not empty]
            kept.append([text for text in dict.fromkeys(far) if text not in near])
            self._num_not_far += sum(text in near for text in far)
        return pa.array(kept, pa.list_(pa.string()))

    def unlabelled(self, batch: pa.RecordBatch) -> BoolArray:
        return np.zeros(batch.num_rows, dtype=np.bool_)  # a missing score is a misfit

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        """Return what makes rows of the same pair differ: their scores, or their negatives."""
        name = SCORE if SCORE in self.columns else NEGATIVE if self._negatives else None
        return [None] * batch.num_rows if name is None else batch.column(name).to_pylist()

    def notes(self) -> list[Problem]:
        if not self._num_not_far:
            return []
        message = f"{self._num_not_far} negatives left out that are the anchor or the positive of their own row."
        return [Problem("warning", message, "Look at how the negatives were chosen.", count=self._num_not_far)]


def _lists(array: pa.Array) -> list[list[str]]:
    """Return the texts of each cell: the items of a list, also of one written as JSON; else the cell itself."""
    if pa.types.is_list(array.type):
        return [[plain_text(item) for item in cell or () if item is not None] for cell in array.to_pylist()]
    found = []
    for cell in as_text(array).to_pylist():
        items = cells.parse_list(cell) if cell is not None and cell.lstrip().startswith("[") else None
        found.append([] if cell is None else [cell] if items is None else items)
    return found


def _scores(array: pa.Array, tally: Tally, rows: pa.Array) -> pa.Array:
    """Return the cells as float64; null, and counted, where they are no finite numbers."""
    found = [_number(cell) for cell in array.to_pylist()]
    tally.add(_NO_SCORE, np.array([number is None for number in found], dtype=np.bool_), rows)
    return pa.array(found, pa.float64())


def _number(cell: Any) -> float | None:
    number = cells.number_of(cell) if isinstance(cell, str) else None if cell is None else float(cell)
    return number if number is not None and math.isfinite(number) else None
