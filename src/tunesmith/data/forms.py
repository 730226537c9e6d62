"""What every form of rows has in common: how it becomes canonical columns, what does not fit, and each row's keys.

A form is a class in a file of its own: labelled texts (``labelled.py``), tagged tokens
(``tagged_rows.py``), conversations (``chat_rows.py``). Which one its rows have is the task's to say
(``Rows.form_for``); nobody else asks which it is.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.base import nearest
from tunesmith.data.bad_rows import BadRows, LeftOut, judge_all
from tunesmith.data.clean import BoolArray, Tally, is_unlabelled
from tunesmith.data.config import CleanConfig
from tunesmith.data.marks import ACCEPTED
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches
from tunesmith.data.schemes import Scheme
from tunesmith.data.spans import Offsets
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice, Guess, InputError, Problem

Keys = npt.NDArray[np.uint64]

Columns = Mapping[str, tuple[str, ...]]
"""By role, the user's columns (several where a label is spread over columns of 0 and 1)."""

UNREADABLE = "Mend them: there must be one prediction per row."


@dataclass(frozen=True, slots=True)
class Misfit:
    """A reason why a row of this form cannot be learned from."""

    what: str
    """As ``Tally`` counts it."""
    words: str
    """What is wrong, as it follows on "3 rows left out: "."""
    refuses_prediction: bool = False
    """Whether nothing can be predicted from such a row either."""
    flag: str = ""
    """The option that decides their form instead of a guess."""
    recorded: str = ""
    """What is wrong in few words, as records list it with a number, where ``what`` is too few."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller and the user say about how rows are read; a form takes what concerns it."""

    for_prediction: bool = False
    """Whether rows are to be predicted on, so that what is to be predicted may be missing."""
    as_numbers: bool = False
    """Whether labels are numbers, rather than what is written."""
    scheme: Scheme | None = None
    """How tags are written; seen from them when not given."""
    offsets: Offsets | None = None
    """How places in a text are counted; seen from the rows when not given."""
    is_strict: bool = False
    """Whether what breaks the rules of its notation cannot be used, rather than being mended."""


class Form(ABC):
    """Rows of one form: where their canonical columns come from and how they are made."""

    truths: ClassVar[tuple[str, ...]] = ()
    """Roles that hold what is to be predicted, and may be missing where it is predicted."""
    misfits: ClassVar[tuple[Misfit, ...]] = ()
    fitting: str | None = None
    """A canonical column that is null exactly where the row is a misfit; None where every row fits."""

    def __init__(self, columns: Columns, fields: Sequence[tuple[str, pa.DataType]], texts: Sequence[str]) -> None:
        self.columns = columns
        self.schema = pa.schema([*fields, ("row", pa.string())])
        """The canonical columns, then ``row``."""
        self.texts = tuple(texts)
        """Canonical columns of text by which rows are compared."""

    @classmethod
    @abstractmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        """Learn from all rows of all splits how the columns are read."""

    @classmethod
    def of(
        cls, datasets: Iterable[Rows], choices: Sequence[ColumnChoice], wishes: Wishes
    ) -> tuple[Self, list[Problem]]:
        """Learn how the chosen columns are read."""
        columns: dict[str, tuple[str, ...]] = {}
        for choice in choices:
            if choice.role == ACCEPTED.name:
                continue  # it says which rows are used, and is no part of them
            columns[choice.role] = (*columns.get(choice.role, ()), choice.column)
        as_numbers = any(choice.is_number for choice in choices)
        return cls.learn(list(datasets), columns, replace(wishes, as_numbers=as_numbers))

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return which columns of a file to predict on fill the roles; ``choices`` are those of the training.

        Raises ``InputError`` when an input column is missing.
        """
        columns = column_names(dataset)
        inputs = [choice for choice in choices if choice.role not in cls.truths]
        truths = [choice for choice in choices if choice.role in cls.truths]
        if len(columns) == 1 and len(inputs) == 1:
            return [ColumnChoice(inputs[0].role, columns[0], "the only column")]
        require_columns(path, columns, inputs)
        return [*inputs, *(truths if all(choice.column in columns for choice in truths) else [])]

    @property
    def label(self) -> str | None:
        """The canonical column of what is to be predicted, when there is one."""
        return None

    @property
    def reads_beginning(self) -> bool:
        """Whether a model reads a text's beginning and no more, so that very long texts are worth a note."""
        return self.label is not None

    @abstractmethod
    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        """Return the canonical columns of some rows, tidied, none left out; count what was changed or does not fit."""

    def batches(self, dataset: Rows, clean: CleanConfig, tally: Tally) -> Iterator[pa.RecordBatch]:
        """Yield all rows of a data set as canonical batches."""
        sources = list(dict.fromkeys(column for columns in self.columns.values() for column in columns))
        for batch in batches(dataset, [*sources, ROW]):
            yield self.make_batch(batch, clean, tally)

    def fits(self, batch: pa.RecordBatch) -> BoolArray:
        """[N]: which rows of a canonical batch can be learned from."""
        if self.fitting is None:
            return np.ones(batch.num_rows, dtype=np.bool_)
        mask: BoolArray = pc.is_valid(batch.column(self.fitting)).to_numpy(zero_copy_only=False)
        return mask

    def unlabelled(self, batch: pa.RecordBatch) -> BoolArray:
        """[N]: which rows of a canonical batch lack what is to be predicted."""
        return (
            np.zeros(batch.num_rows, dtype=np.bool_) if self.label is None else is_unlabelled(batch.column(self.label))
        )

    @property
    def without_label(self) -> str:
        """What rows that lack what is to be predicted are counted as, where they are left out."""
        return "empty label"

    def summaries(self, batch: pa.RecordBatch) -> list[Any]:
        """Return what each row's label is counted by; nothing where there are no labels."""
        cells: list[Any] = [] if self.label is None else batch.column(self.label).to_pylist()
        return cells

    def group_values(self, column: str, values: Sequence[Any], batch: pa.RecordBatch) -> list[Any]:  # noqa: ARG002
        """Return what each row's group is told by, given the values of the user's ``column`` that holds groups."""
        return list(values)

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        """Return what makes rows of the same texts differ: their labels, or all that a text leaves out."""
        return batch.column(self.label).to_pylist() if self.label else [None] * batch.num_rows

    def notes(self) -> list[Problem]:
        """Return what is worth saying about the rows made so far."""
        return []

    def guesses(self) -> list[Guess]:
        """Return how the rows' form was chosen."""
        return []

    def misfit_words(self, misfit: Misfit) -> str:
        """Return what is wrong with rows of this misfit."""
        return misfit.words

    def misfit_notes(
        self, tally: Tally, split: str, num_rows: int, bad_rows: BadRows, shown: Mapping[str, Sequence[str]]
    ) -> list[Problem]:
        """Return what is to be said of the misfits of a split: errors where there are more than may be left out.

        ``tally`` counts the misfits among ``num_rows`` rows; ``shown`` holds the first ones of each, in words.
        """
        found = [
            LeftOut(
                f"The {split} rows",
                tally.counts[misfit.what],
                num_rows,
                f"cannot be used ({self.misfit_words(misfit).rstrip('.')})",
                tuple(tally.places[misfit.what]),
                tuple(shown.get(misfit.what, ())),
                flag=misfit.flag,
            )
            for misfit in self.misfits
            if misfit.what in tally.counts
        ]
        return judge_all(found, bad_rows)

    def refuse_misfits(self, tally: Tally) -> None:
        """Raise ``InputError`` with the misfits counted that leave nothing to predict."""
        problems = [
            replace(problem, severity="error", fix=UNREADABLE)
            for misfit in self.misfits
            if misfit.refuses_prediction
            for problem in tally.problem(misfit.what, f"{{rows}} cannot be used: {self.misfit_words(misfit)}")
        ]
        if problems:
            raise InputError(problems)


def require_columns(path: str, columns: Sequence[str], choices: Sequence[ColumnChoice]) -> None:
    """Raise ``InputError`` when a file lacks a chosen column."""
    missing = [choice for choice in choices if choice.column not in columns]
    if missing:
        raise InputError(
            Problem(
                "error",
                f"{path} has no column '{choice.column}' ({choice.role}). "
                f"{nearest(choice.column, list(columns))}".rstrip(),
                f"Columns: {', '.join(columns)}. Say which one it is: --columns {choice.role}=COLUMN.",
            )
            for choice in missing
        )


# ---- cells ---------------------------------------------------------------------------------------


def as_text(array: pa.Array) -> pa.Array:
    """Return any column as text; lists as JSON, whole numbers without a decimal point."""
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_list(array.type):
        cells = array.to_pylist()
        return pa.array([None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells], pa.string())
    if pa.types.is_floating(array.type):
        return pa.array([None if cell is None else plain_text(cell) for cell in array.to_pylist()], pa.string())
    return pc.cast(array, pa.string())


def plain_text(item: Any) -> str:
    """Return a scalar as it would be written by hand."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float) and item.is_integer():
        return str(int(item))
    return str(item)


# ---- keys ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowKeys:
    """Numbers of 64 bits made of each row's content, [N] each.

    Among a million rows, two that differ share one with a probability of about 3 in 100 million.
    """

    texts: Keys
    """Texts, letter case and runs of white space put aside."""
    exact: Keys
    """Texts as they are."""
    whole: Keys
    """Texts and label."""
    groups: Keys
    """The group's value; 0 where there is none."""
    digest: npt.NDArray[np.void]
    """SHA-256 of texts and label, 32 bytes."""

    @property
    def identity(self) -> Keys:
        """Texts, label and group; the factor makes equal sums of different parts unlikely."""
        return self.whole + self.groups * np.uint64(0x9E3779B97F4A7C15)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the keys of all parts, one after the other."""
        empty = np.zeros(0, dtype=np.uint64)
        if not parts:
            return cls(empty, empty, empty, empty, np.zeros(0, dtype="V32"))
        return cls(
            texts=np.concatenate([part.texts for part in parts]),
            exact=np.concatenate([part.exact for part in parts]),
            whole=np.concatenate([part.whole for part in parts]),
            groups=np.concatenate([part.groups for part in parts]),
            digest=np.concatenate([part.digest for part in parts]),
        )


def row_keys(batch: pa.RecordBatch, form: Form, groups: Sequence[Any] | None) -> RowKeys:
    """Return the keys of a canonical batch's rows. A row without a group value is a group of its own."""
    num_rows = batch.num_rows
    texts = list(zip(*(batch.column(role).to_pylist() for role in form.texts), strict=True)) or [()] * num_rows
    digests = []
    for row_texts, content in zip(texts, form.contents(batch), strict=True):
        # Lengths keep the borders between texts; a missing text differs from an empty one.
        exact = "".join("-" if text is None else f"{len(text)}:{text}" for text in row_texts)
        plain = "\x1f".join(" ".join(text.casefold().split()) if text else "" for text in row_texts)
        whole = hashlib.sha256(f"{exact}\n{_content_text(content)}".encode()).digest()
        digests.append((_short(plain), _short(exact), whole))
    full = np.frombuffer(b"".join(whole for _, _, whole in digests), dtype="V32")
    plain_keys = np.array([plain for plain, _, _ in digests], dtype=np.uint64)
    if groups is None:
        group_keys = np.zeros(num_rows, dtype=np.uint64)
    else:
        group_keys = np.array(
            [
                plain if value is None else max(_short(f"group {value}"), 1)
                for value, plain in zip(groups, plain_keys.tolist(), strict=True)
            ],
            dtype=np.uint64,
        )
    return RowKeys(
        plain_keys,
        np.array([exact for _, exact, _ in digests], dtype=np.uint64),
        np.ascontiguousarray(full.view(np.uint64).reshape(num_rows, 4)[:, 0]),
        group_keys,
        full,
    )


def _content_text(content: Any) -> str:
    if isinstance(content, list):
        return json.dumps(sorted(content), ensure_ascii=False)
    return f"{type(content).__name__} {content}"


def _short(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
