"""Texts with a label, or without one: the form of classification, regression, and plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data import cells
from tunesmith.data.clean import WHITE_SPACE, BoolArray, Tally, plural, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Wishes, as_text, plain_text
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches
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
        is_list = kind is not None and pa.types.is_list(kind) and len(columns[LABEL]) == 1
        self._may_be_none = is_list or (label_form is not None and label_form.reading == "several")
        """Whether rows hold any number of labels, so that an empty cell is none of them."""
        self._num_without = 0

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        """Learn how labels are read: as numbers, or as what is written."""
        if LABEL not in columns:
            return cls(columns, None, None), []
        kind, label_form = label_type(datasets, columns[LABEL], as_numbers=wishes.as_numbers)
        reading = None if label_form is None else label_form.reading
        problems = _look_alikes(datasets, columns[LABEL][0]) if reading == "names" else []
        if label_form is not None and cells.NO_LABEL in label_form.missing:
            message = f"'{cells.NO_LABEL}' in column '{columns[LABEL][0]}' was read as no label: all others are words."
            problems.append(Problem("note", message, "Write a word instead if it is a label."))
        if reading == "numbers":
            problems = _maybe_thousands(datasets, columns[LABEL])
        return cls(columns, kind, label_form), problems

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
            labels = tidy_text(as_text(labels), clean, tally, batch.column(ROW))
        elif pa.types.is_list(kind):
            lists = labels.to_pylist()
            labels = pa.array(
                [[] if items is None else [plain_text(item) for item in items if item is not None] for items in lists],
                kind,
            )
            self._num_without += lists.count(None)
        if self._may_be_none and pa.types.is_string(kind):
            self._num_without += labels.null_count
        return labels

    def unlabelled(self, batch: pa.RecordBatch) -> BoolArray:
        """Where rows hold any number of labels, none is what an empty cell says."""
        return np.zeros(batch.num_rows, dtype=np.bool_) if self._may_be_none else super().unlabelled(batch)

    def notes(self) -> list[Problem]:
        if not self._num_without:
            return []
        message = f"{plural(self._num_without)} without a label kept: where rows hold several, an empty cell is none."
        return [Problem("note", message, "Remove the rows if nobody has labelled them.", count=self._num_without)]


def label_type(
    given: Sequence[Rows], sources: tuple[str, ...], *, as_numbers: bool
) -> tuple[pa.DataType, LabelForm | None]:
    """Return the Arrow type of labels and how cells that are text are read, learned from all rows."""
    if len(sources) > 1:
        return pa.list_(pa.string()), None
    kinds = {dataset.schema.field(sources[0]).type for dataset in given}
    if len(kinds) == 1 and not pa.types.is_string(kind := kinds.pop()):
        if pa.types.is_boolean(kind) or pa.types.is_null(kind):
            return pa.string(), None
        if pa.types.is_list(kind):
            is_single = cells.hold_one([_sizes(dataset, sources[0]) for dataset in given])
            return (pa.string(), LabelForm("singles")) if is_single else (pa.list_(pa.string()), None)
        return kind, None
    form = LabelForm.of([_counted(dataset, sources) for dataset in given], as_numbers=as_numbers)
    return form.type, form


def _sizes(dataset: Rows, source: str) -> Counter[int]:
    """Return how many lists of a column have so many items."""
    sizes: Counter[int] = Counter()
    for batch in batches(dataset, [source]):
        lengths = pc.value_counts(pc.fill_null(pc.list_value_length(batch.column(0)), 0)).to_pylist()
        sizes.update({entry["values"]: entry["counts"] for entry in lengths})
    return sizes


def _counted(dataset: Rows, sources: tuple[str, ...]) -> Counter[str]:
    """Return how often each cell occurs, outer white space put aside."""
    counts: Counter[str] = Counter()
    for batch in batches(dataset, sources):
        texts = pc.utf8_trim(as_text(batch.column(0)), characters=WHITE_SPACE).drop_null()
        for entry in pc.value_counts(texts).to_pylist():
            counts[entry["values"]] += entry["counts"]
    return counts


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
        return _same_numbers(names)
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


def _maybe_thousands(given: Sequence[Rows], sources: tuple[str, ...]) -> list[Problem]:
    """Warn where points may stand between thousands: as 9.500 beside 12.250 and 800, and no other fraction."""
    counts = sum((_counted(dataset, sources) for dataset in given), Counter[str]())
    doubtful = [text for text in counts if cells.may_be_thousands(text)]
    if not doubtful or any("." in text for text in counts.keys() - set(doubtful)):
        return []
    number = sum(counts[text] for text in doubtful)
    message = (
        f"{plural(number)} have labels such as {doubtful[0]}, and no label has another number of digits after its "
    )
    message += f"point: they were read as fractions ({float(doubtful[0]):g}), not as thousands."
    return [Problem("warning", message, "If thousands are meant, write them without points.", count=number)]


def _same_numbers(names: Iterable[str]) -> list[Problem]:
    """Say which labels would be one if they were numbers."""
    by_value: dict[float, list[str]] = {}
    for name in sorted({name.strip() for name in names}):
        if cells.is_number(name):
            by_value.setdefault(float(name), []).append(name)
    alike = [found for found in by_value.values() if len(found) > 1]
    if not alike:
        return []
    listed = "; ".join(" and ".join(map(repr, found[:4])) for found in alike[:5])
    message = f"Labels are what is written: {listed} are different labels, though the same number."
    return [Problem("note", message, "Write them alike if they mean the same.", count=len(alike))]


PLAIN = cells.NumberStyle()

Reading = Literal["numbers", "integers", "booleans", "lists", "singles", "several", "names"]
"""How the cells of a text column that holds labels are read: as numbers, for tasks that predict them; as whole numbers
that are written as such, so that nothing of their text is lost; as true and false, however they are written; as lists,
as lists of one label each; as texts that join several labels; or as what is written."""


@dataclass(frozen=True, slots=True)
class LabelForm:
    """How the cells of a text column that holds labels are read: learned from all rows, then applied."""

    reading: Reading
    style: cells.NumberStyle = PLAIN
    """Of numbers."""
    missing: tuple[str, ...] = cells.MISSING_LABELS
    """What stands for no label among names."""

    @classmethod
    def of(cls, counts: Sequence[Counter[str]], *, as_numbers: bool) -> Self:
        """Learn from how often each cell occurs in each split.

        White space around cells is put aside, and what stands for no number, too, where all others are numbers.
        """
        present = [[text for text in one if text.lower() not in cells.MISSING_NUMBERS] for one in counts]
        together = {text for texts in present for text in texts}
        if not together:
            return cls("names")
        if as_numbers:
            return cls._of_numbers(together)
        lowered = {text.lower() for text in together}
        if lowered <= _TRUTHS.keys() and lowered & {"true", "false"}:
            return cls("booleans")
        # Tables with gaps write whole numbers with a fraction: all of a file, or none.
        if all(all(map(_is_plain_integer, texts)) or all(map(_is_whole_fraction, texts)) for texts in present):
            return cls("integers")
        if all(cells.parse_list(text) is not None for text in together):
            return cls("singles" if cells.hold_one(map(_list_sizes, counts)) else "lists")
        return cls._of_names(counts)

    @classmethod
    def _of_names(cls, counts: Sequence[Counter[str]]) -> Self:
        total: Counter[str] = Counter()
        for one in counts:
            total.update({text: count for text, count in one.items() if text})
        if cells.list_separator(total):
            return cls("several")
        is_dash = cells.means_no_label(total) and total[cells.NO_LABEL] < 0.5 * total.total()
        return cls("names", missing=(*cells.MISSING_LABELS, *([cells.NO_LABEL] if is_dash else [])))

    @classmethod
    def _of_numbers(cls, texts: Collection[str]) -> Self:
        style = cells.number_style(texts)
        if style is None:
            return cls("names")
        is_whole = all(_is_whole(style.plain(text)) for text in texts)
        return cls("integers" if is_whole else "numbers", style)

    def read(self, labels: pa.Array) -> pa.Array:
        """Return the cells of a column, or a part of it; null where there is no label."""
        texts = pc.utf8_trim(labels, characters=WHITE_SPACE)
        if self.reading in ("several", "names"):
            blank = [""] if self.reading == "several" else []
            missing = pc.is_in(texts, pa.array([*blank, *self.missing]))
            return pc.if_else(pc.fill_null(missing, True), pa.scalar(None, pa.string()), labels)
        if self.reading == "lists":
            parsed = [None if text is None else cells.parse_list(text) for text in labels.to_pylist()]
            return pa.array(parsed, pa.list_(pa.string()))
        if self.reading == "singles":
            parsed = [None if text is None else cells.parse_list(text) for text in labels.to_pylist()]
            return pa.array([items[0] if items else None for items in parsed], pa.string())
        lowered = pc.utf8_lower(texts)
        missing = pc.is_in(lowered, pa.array(sorted(cells.MISSING_NUMBERS)))
        if self.reading == "booleans":
            found = [None if text is None else _TRUTHS.get(text) for text in lowered.to_pylist()]
            return pa.array(found, pa.string())
        texts = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
        for character in self.style.groups:
            texts = pc.replace_substring(texts, character, "")
        texts = pc.replace_substring(texts, self.style.decimal, ".")
        if self.reading == "integers":
            return pc.cast(pc.replace_substring_regex(texts, r"\.0$", ""), pa.int64())
        return pc.cast(pc.utf8_ltrim(texts, characters="+"), pa.float64())

    @property
    def type(self) -> pa.DataType:
        """The Arrow type that ``read`` gives."""
        types = {"numbers": pa.float64(), "integers": pa.int64(), "lists": pa.list_(pa.string())}
        return types.get(self.reading, pa.string())


def _list_sizes(counts: Counter[str]) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for text, count in counts.items():
        if text:
            sizes[len(cells.parse_list(text) or ())] += count
    return sizes


_TRUTHS = {"true": "true", "1": "true", "1.0": "true", "false": "false", "0": "false", "0.0": "false"}


def _is_plain_integer(text: str) -> bool:
    """Say whether the text is all that there is to a whole number: +1 and -0 would be written otherwise."""
    return cells.is_integer(text) and text[0] != "+" and text != "-0"


def _is_whole_fraction(text: str) -> bool:
    return text.endswith(".0") and _is_plain_integer(text.removesuffix(".0"))


def _is_whole(text: str) -> bool:
    """Say whether the text is a whole number that doubles hold exactly."""
    return cells.is_amount(text) and (_is_plain_integer(text) or _is_whole_fraction(text))
