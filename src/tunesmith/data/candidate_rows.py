"""Queries with candidates to be put in order: the form of reranking.

A row has a ``query``, its ``candidates`` (texts, as many as it likes) and, if known, their ``grades``: the higher, the
better a candidate answers the query. Files say it in three ways: positives and negatives in columns of their own, lists
of candidates beside lists of grades, or a candidate and its grade a line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data import cells
from tunesmith.data.clean import BoolArray, Tally, tidy_parts, tidy_text
from tunesmith.data.columns import matching_name
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text, plain_text, require_columns
from tunesmith.data.records import ROW
from tunesmith.data.related_texts import FURTHER_NEGATIVES, NEGATIVE, POSITIVE
from tunesmith.data.rows import Rows
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice

QUERY, CANDIDATES, GRADES, DOCUMENT, GRADE = "query", "candidates", "grades", "document", "grade"

CANDIDATE_NAMES = ("candidates", "documents", "passages", "docs", "texts", "options", "contexts", "候选", "文档列表")
"""Usual names of a column of lists of candidates."""

_STRINGS, _NUMBERS = pa.list_(pa.string()), pa.list_(pa.float64())
_NONE, _UNGRADED = "candidates", "grades"
_WORDS = {"true": 1.0, "yes": 1.0, "relevant": 1.0, "false": 0.0, "no": 0.0, "irrelevant": 0.0}


class Candidates(Form):
    """``query``, ``candidates`` and, if known, ``grades``."""

    truths: ClassVar[tuple[str, ...]] = (GRADES, GRADE)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit(_NONE, "they have no candidate.", refuses_prediction=True, recorded="no candidate"),
        Misfit(
            _UNGRADED,
            "their grades are missing, no finite numbers, or not as many as candidates.",
            recorded="grades that do not fit the candidates",
        ),
    )

    def __init__(self, columns: Columns) -> None:
        self._positives = columns.get(POSITIVE, ())
        self._negatives = tuple(name for role in (NEGATIVE, *FURTHER_NEGATIVES) for name in columns.get(role, ()))
        self._graded = columns.get(GRADES) or columns.get(GRADE) or ()
        fields: list[tuple[str, pa.DataType]] = [(QUERY, pa.string()), (CANDIDATES, _STRINGS)]
        self._has_grades = bool(self._positives or self._graded)
        if self._has_grades:
            fields.append((GRADES, _NUMBERS))
        super().__init__(columns, fields, [QUERY])
        self.fitting = GRADES if self._has_grades else CANDIDATES

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Any]]:
        """Learn nothing: texts are read as they stand, and grades as numbers."""
        del datasets, wishes
        return cls(columns), []

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return the columns to predict on: those of training or, where these are missing, a column of lists."""
        columns = column_names(dataset)
        known = [choice for choice in choices if choice.column in columns]
        query = [choice for choice in choices if choice.role == QUERY]
        sources = {POSITIVE, CANDIDATES, DOCUMENT}
        if any(choice.role in sources for choice in known):
            require_columns(path, columns, query)
            return known
        require_columns(path, columns, query)
        named = next((name for name in columns if matching_name(name, CANDIDATE_NAMES, exact=True)), None)
        if named is None:
            require_columns(path, columns, [choice for choice in choices if choice.role in sources])
            return known
        return [*query, ColumnChoice(CANDIDATES, named, "named as a column of candidates")]

    @property
    def reads_beginning(self) -> bool:
        return True

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        places = batch.column(ROW)
        queries = tidy_text(as_text(batch.column(self.columns[QUERY][0])), clean, tally, places)
        texts, grades = self._given(batch)
        tidied = tidy_parts(texts, clean, tally, places)
        if self._positives:
            tidied, grades = _once_each(tidied, grades)
        has_none = [not own for own in tidied]
        unfit = [
            self._has_grades and not none and not _fits(own, given)
            for own, given, none in zip(tidied, grades, has_none, strict=True)
        ]
        tally.add(_NONE, np.array(has_none, dtype=np.bool_), places)
        tally.add(_UNGRADED, np.array(unfit, dtype=np.bool_), places)
        is_bad = [none or bad for none, bad in zip(has_none, unfit, strict=True)]
        arrays = [
            queries,
            pa.array([None if none else own for own, none in zip(tidied, has_none, strict=True)], _STRINGS),
        ]
        if self._has_grades:
            kept = [None if bad else given for given, bad in zip(grades, is_bad, strict=True)]
            arrays.append(pa.array(kept, _NUMBERS))
        return pa.RecordBatch.from_arrays([*arrays, places], schema=self.schema)

    def unlabelled(self, batch: pa.RecordBatch) -> BoolArray:
        """Return that no row lacks its grades: such rows are misfits already."""
        return np.zeros(batch.num_rows, dtype=np.bool_)

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        """Return the candidates and their grades: what makes rows of the same query differ."""
        grades = batch.column(GRADES).to_pylist() if self._has_grades else [None] * batch.num_rows
        pairs = zip(batch.column(CANDIDATES).to_pylist(), grades, strict=True)
        return [json.dumps(pair, ensure_ascii=False) for pair in pairs]

    def _given(self, batch: pa.RecordBatch) -> tuple[list[list[str]], list[list[float | None]]]:
        """Return the candidates of every row, and the grade of each; None for what is no number."""
        if self._positives:
            sides = [(self._positives, 1.0), (self._negatives, 0.0)]
            found = [(_lists(batch.column(name)), grade) for names, grade in sides for name in names]
            texts = [[text for lists, _ in found for text in lists[row]] for row in range(batch.num_rows)]
            own: list[list[float | None]] = [
                [grade for lists, grade in found for _ in lists[row]] for row in range(batch.num_rows)
            ]
            return texts, own
        (name,) = self.columns.get(CANDIDATES) or self.columns[DOCUMENT]
        is_one = CANDIDATES not in self.columns
        texts = (
            [[cell] if cell is not None else [] for cell in as_text(batch.column(name)).to_pylist()]
            if is_one
            else _lists(batch.column(name), keep_empty=True)
        )
        if not self._graded:
            return texts, [[] for _ in texts]
        grades = batch.column(self._graded[0])
        return texts, [[_number(cell)] for cell in grades.to_pylist()] if is_one else _grades(grades)


def _once_each(
    texts: list[list[str]], grades: list[list[float | None]]
) -> tuple[list[list[str]], list[list[float | None]]]:
    """Return each row's candidates without empty ones and repeated ones: the first, which is a positive, stays."""
    kept_texts, kept_grades = [], []
    for own, given in zip(texts, grades, strict=True):
        first: dict[str, float | None] = {}
        for text, grade in zip(own, given, strict=True):
            if text.strip():
                first.setdefault(text, grade)
        kept_texts.append(list(first))
        kept_grades.append(list(first.values()))
    return kept_texts, kept_grades


def _fits(texts: Sequence[str], grades: Sequence[float | None]) -> bool:
    return len(texts) == len(grades) and None not in grades


def _lists(array: pa.Array, *, keep_empty: bool = False) -> list[list[str]]:
    """Return the texts of each cell: the items of a list, also of one written as JSON; else the cell itself."""
    found = []
    for cell in array.to_pylist() if pa.types.is_list(array.type) else as_text(array).to_pylist():
        items = cells.parse_list(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell
        if items is None:
            items = [] if cell is None else [cell]
        texts = [items] if isinstance(items, str) else ["" if item is None else plain_text(item) for item in items]
        found.append(texts if keep_empty else [text for text in texts if text.strip()])
    return found


def _grades(array: pa.Array) -> list[list[float | None]]:
    """Return the numbers of each cell, a list or one written as JSON; none for what is none."""
    found: list[list[float | None]] = []
    for cell in array.to_pylist():
        items = cells.parse_list(cell) if isinstance(cell, str) else cell
        found.append([_number(item) for item in items] if isinstance(items, list) else [])
    return found


def _number(cell: Any) -> float | None:
    if isinstance(cell, str):
        number = _WORDS.get(cell.strip().lower(), cells.number_of(cell))
    else:
        number = None if cell is None else float(cell)
    return number if number is not None and math.isfinite(number) else None
