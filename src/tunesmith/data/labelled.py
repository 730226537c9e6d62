"""Texts with a label, or without one: the form of classification, regression, and plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data import cells
from tunesmith.data.clean import WHITE_SPACE, Tally, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, as_text, plain_text
from tunesmith.data.records import ROW
from tunesmith.data.tables import Rows, batches
from tunesmith.types import Problem

LABEL = "label"

_MAX_NAMES = 10_000


class LabelledTexts(Form):
    """One column per text, as it is, and a label of any kind where one was chosen."""

    truths: ClassVar[tuple[str, ...]] = (LABEL,)

    def __init__(self, columns: Columns, kind: pa.DataType | None, label_form: LabelForm | None) -> None:
        """``kind`` is the label's Arrow type; ``label_form`` says how label cells that are text are read."""
        fields = [(role, kind if role == LABEL and kind is not None else pa.string()) for role in columns]
        super().__init__(columns, fields, [role for role in columns if role != LABEL])
        self._label_form = label_form

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, *, for_prediction: bool) -> tuple[Self, list[Problem]]:
        del for_prediction
        if LABEL not in columns:
            return cls(columns, None, None), []
        kind, label_form = _label_type(datasets, columns[LABEL])
        is_name = label_form is not None and pa.types.is_string(kind)
        return cls(columns, kind, label_form), _look_alikes(datasets, columns[LABEL][0]) if is_name else []

    @property
    def label(self) -> str | None:
        return LABEL if LABEL in self.columns else None

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        rows = batch.column(ROW)
        arrays = [
            self._labels(batch, columns, clean, tally)
            if role == LABEL
            else tidy_text(as_text(batch.column(columns[0])), clean, tally, rows)
            for role, columns in self.columns.items()
        ]
        return pa.RecordBatch.from_arrays([*arrays, rows], schema=self.schema)

    def _labels(self, batch: pa.RecordBatch, columns: tuple[str, ...], clean: CleanConfig, tally: Tally) -> pa.Array:
        if len(columns) > 1:
            return _names_of_set(batch, columns)
        kind = self.schema.field(LABEL).type
        labels = batch.column(columns[0])
        if self._label_form is not None:
            labels = self._label_form.read(as_text(labels))
        if pa.types.is_string(kind):
            return tidy_text(as_text(labels), clean, tally, batch.column(ROW))
        if pa.types.is_list(kind) and labels.type != kind:
            lists = labels.to_pylist()
            return pa.array(
                [
                    None if items is None else [plain_text(item) for item in items if item is not None]
                    for items in lists
                ],
                kind,
            )
        return labels


def _label_type(given: Sequence[Rows], sources: tuple[str, ...]) -> tuple[pa.DataType, LabelForm | None]:
    if len(sources) > 1:
        return pa.list_(pa.string()), None
    kinds = {dataset.schema.field(sources[0]).type for dataset in given}
    if len(kinds) == 1 and not pa.types.is_string(kind := kinds.pop()):
        if pa.types.is_boolean(kind) or pa.types.is_null(kind):
            return pa.string(), None
        if pa.types.is_list(kind):
            return pa.list_(pa.string()), None
        return kind, None
    form = LabelForm()
    for dataset in given:
        for batch in batches(dataset, sources):
            form.learn(as_text(batch.column(0)))
    return form.type, form


def _look_alikes(given: Sequence[Rows], source: str) -> list[Problem]:
    """Warn of labels that differ only in case or in white space: cleaning joins the latter."""
    names: set[str] = set()
    for dataset in given:
        for batch in batches(dataset, [source]):
            names.update(pc.unique(as_text(batch.column(0))).drop_null().to_pylist())
            if len(names) > _MAX_NAMES:
                return []
    by_plain: dict[str, list[str]] = {}
    for name in sorted(names):
        by_plain.setdefault(" ".join(name.casefold().split()), []).append(name)
    alike = [found for plain, found in by_plain.items() if plain and len(found) > 1]
    if not alike:
        return []
    listed = "; ".join(" and ".join(map(repr, found[:4])) for found in alike[:5])
    return [
        Problem(
            "warning",
            f"Some labels differ only in case or white space: {listed}.",
            "Those that differ in case stay different labels; outer white space is removed unless "
            "data.clean.whitespace is false. Write them alike if they mean the same.",
            count=len(alike),
        )
    ]


def _names_of_set(batch: pa.RecordBatch, columns: tuple[str, ...]) -> pa.Array:
    """Return, per row, the names of the columns that say yes; null where all are empty."""
    truths = [[_truth(value) for value in batch.column(column).to_pylist()] for column in columns]
    rows = [
        None
        if all(truth is None for truth in row)
        else [name for name, truth in zip(columns, row, strict=True) if truth]
        for row in zip(*truths, strict=True)
    ]
    return pa.array(rows, pa.list_(pa.string()))


def _truth(value: Any) -> bool | None:
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:  # noqa: PLR0124 (NaN)
        return None
    if isinstance(value, str):
        return value.strip().lower() in {"1", "1.0", "true", "yes", "t", "y"}
    return bool(value)


@dataclass
class LabelForm:
    """How the cells of a text column that holds labels are to be read: learned from all rows, then applied."""

    is_integer: bool = True
    is_number: bool = True
    is_list: bool = True
    is_anything: bool = False

    def learn(self, labels: pa.Array) -> None:
        """Look at more cells."""
        texts = pc.utf8_trim(labels, characters=WHITE_SPACE)
        present = texts.filter(pc.invert(pc.is_in(pc.utf8_lower(texts), pa.array(sorted(cells.MISSING_NUMBERS)))))
        present = present.drop_null()
        if self.is_number and len(present):
            self.is_anything = True
            matches = pc.match_substring_regex(present, f"^(?:{cells.FLOAT})$")
            self.is_number = bool(pc.all(matches).as_py())
            # A double holds whole numbers exactly up to 2^53.
            if self.is_number and self.is_integer:
                numbers = pc.cast(present, pa.float64())
                whole = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), 2.0**53))
                self.is_integer = bool(pc.all(whole).as_py())
        if self.is_list and len(present):
            self.is_list = all(cells.parse_list(text) is not None for text in pc.unique(present).to_pylist())

    def read(self, labels: pa.Array) -> pa.Array:
        """Return the cells as whole numbers, numbers, lists or, where none of these fits all, as text."""
        if self.is_anything and self.is_number:
            texts = pc.utf8_trim(labels, characters=WHITE_SPACE)
            missing = pc.is_in(pc.utf8_lower(texts), pa.array(sorted(cells.MISSING_NUMBERS)))
            numbers = pc.cast(pc.if_else(missing, pa.scalar(None, pa.string()), texts), pa.float64())
            return pc.cast(numbers, pa.int64()) if self.is_integer else numbers
        if self.is_anything and self.is_list:
            parsed = [None if text is None else cells.parse_list(text) for text in labels.to_pylist()]
            rows = [None if items is None else [str(item) for item in items] for items in parsed]
            return pa.array(rows, pa.list_(pa.string()))
        return labels

    @property
    def type(self) -> pa.DataType:
        """The Arrow type that ``read`` gives."""
        if self.is_anything and self.is_number:
            return pa.int64() if self.is_integer else pa.float64()
        return pa.list_(pa.string()) if self.is_anything and self.is_list else pa.string()
