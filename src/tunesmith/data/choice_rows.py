"""Questions with several answers to choose from: the form of multiple choice.

A row has a ``question``, perhaps a ``context``, its ``choices`` (texts, as many as it likes but at least two) and, if
known, the ``label``: the number of the right one, from 0.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.cells import parse_list
from tunesmith.data.clean import Tally, tidy_parts, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text, plain_text
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, nested_columns
from tunesmith.types import Guess, Problem

CONTEXT, QUESTION, CHOICES, LABEL = "context", "question", "choices", "label"

Reading = Literal["from 0", "from 1", "letters", "keys", "texts"]
"""How labels say which choice is right: its number, its letter, the key that the row gives it, or its words."""
READINGS: tuple[Reading, ...] = ("from 0", "from 1", "letters", "keys", "texts")
"""The first of those that explain most rows wins."""

_STRINGS = pa.list_(pa.string())
_TEXTS, _KEYS = ("text", "texts", "para", "choice", "option"), ("label", "labels", "key", "id")


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of one row and the keys that the file gives them, where it gives any."""

    texts: tuple[str, ...]
    keys: tuple[str, ...] = ()


class Choices(Form):
    """``question``, ``context`` (where there is one), ``choices`` and, if known, ``label``."""

    truths: ClassVar[tuple[str, ...]] = (LABEL,)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit(
            "choices",
            "they have fewer than two choices, or what cannot be read as such.",
            refuses_prediction=True,
            recorded="fewer than two choices",
        ),
        Misfit("same", "two of their choices are the same.", recorded="equal choices"),
        Misfit("label", "their label names none of their choices.", recorded="labels that name no choice"),
    )

    def __init__(self, columns: Columns, reading: Reading, guesses: Sequence[Guess], *, for_prediction: bool) -> None:
        fields: list[tuple[str, pa.DataType]] = [(QUESTION, pa.string()), (CHOICES, _STRINGS)]
        texts = [QUESTION]
        if CONTEXT in columns:
            fields.insert(0, (CONTEXT, pa.string()))
            texts.insert(0, CONTEXT)
        if LABEL in columns:
            fields.append((LABEL, pa.int64()))
        roles = (LABEL, CHOICES, QUESTION, CONTEXT)  # in this order rows that cannot be used are shown
        super().__init__({role: columns[role] for role in roles if role in columns}, fields, texts)
        self.fitting = LABEL if LABEL in columns else CHOICES
        self._reading: Reading = reading
        self._guesses = list(guesses)
        self._for_prediction = for_prediction

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        """Learn how labels are written: by what explains most rows of all splits."""
        if LABEL not in columns:
            return cls(columns, "from 0", (), for_prediction=wishes.for_prediction), []
        explained: Counter[Reading] = Counter()
        for dataset in datasets:
            for batch in batches(dataset, list(dict.fromkeys([*columns[CHOICES], *columns[LABEL]]))):
                for cells, label in _cells(batch, columns):
                    options = read_options(cells, columns[CHOICES])
                    if options is not None:
                        explained.update(one for one in READINGS if which(options, label, one) is not None)
        chosen = max(READINGS, key=lambda one: explained[one])
        others = tuple((one, explained[one]) for one in READINGS if one != chosen and explained[one])
        guess = Guess("labels", chosen, explained[chosen], others)
        return cls(columns, chosen, [guess], for_prediction=wishes.for_prediction), _remarks(guess)

    @property
    def label(self) -> str | None:
        return LABEL if LABEL in self.columns else None

    @property
    def reads_beginning(self) -> bool:
        return False

    def summaries(self, batch: pa.RecordBatch) -> list[Any]:
        """Return the numbers of the right choices as amounts: they are no classes."""
        return [None if label is None else float(label) for label in super().summaries(batch)]

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        labels = super().contents(batch)
        pairs = zip(batch.column(CHOICES).to_pylist(), labels, strict=True)
        return [json.dumps(pair, ensure_ascii=False) for pair in pairs]

    def guesses(self) -> list[Guess]:
        return self._guesses

    def misfit_words(self, misfit: Misfit) -> str:
        if misfit.what != "label" or not self._guesses:
            return misfit.words
        guess = self._guesses[0]
        return f"{misfit.words.rstrip('.')}, read as {guess.chosen}, which explains {guess.explained:,} rows."

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        places = batch.column(ROW)
        rows = list(_cells(batch, self.columns))
        found = [self._row(cells, label) for cells, label in rows]
        for misfit in self.misfits:
            tally.add(misfit.what, np.array([reason == misfit.what for _, _, reason in found], dtype=bool), places)
        texts_N = tidy_parts([[] if texts is None else list(texts) for texts, _, _ in found], clean, tally, places)
        texts_N = [None if texts is None else own for own, (texts, _, _) in zip(texts_N, found, strict=True)]  # type: ignore[misc]
        made = {
            role: tidy_text(as_text(batch.column(self.columns[role][0])), clean, tally, places)
            for role in (CONTEXT, QUESTION)
            if role in self.columns
        }
        made[CHOICES] = pa.array(texts_N, _STRINGS)
        if LABEL in self.columns:
            made[LABEL] = pa.array([label for _, label, _ in found], pa.int64())
        return pa.RecordBatch.from_arrays(
            [*(made[name] for name in self.schema.names[:-1]), places], schema=self.schema
        )

    def unlabelled(self, batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return that no row lacks its label: such rows are misfits already."""
        return np.zeros(batch.num_rows, dtype=np.bool_)

    def _row(self, cells: Mapping[str, Any], label: Any) -> tuple[tuple[str, ...] | None, int | None, str]:
        """Return a row's choices, the number of the right one, and what it is a misfit for."""
        options = read_options(cells, self.columns[CHOICES])
        if options is None:
            return None, None, "choices"
        if LABEL not in self.columns:
            return options.texts, None, ""
        number = which(options, label, self._reading)
        if len({text.strip() for text in options.texts}) < len(options.texts):
            return options.texts, None, "same"
        return options.texts, number, "" if number is not None else "label"


def _cells(batch: pa.RecordBatch, columns: Columns) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the cells of every row's choices by column, and its label."""
    nested = nested_columns(batch.schema)
    names = list(dict.fromkeys([*columns[CHOICES], *columns.get(LABEL, ())]))
    read = {
        name: [
            json.loads(cell) if name in nested and isinstance(cell, str) else cell
            for cell in batch.column(name).to_pylist()
        ]
        for name in names
    }
    for row in range(batch.num_rows):
        label = read[columns[LABEL][0]][row] if LABEL in columns else None
        yield {name: read[name][row] for name in columns[CHOICES]}, label


# ---- cells to choices ----------------------------------------------------------------------------


def read_options(cells: Mapping[str, Any], columns: Sequence[str]) -> Options | None:
    """Return the choices of a row: a column each, or one of lists; None where there are not two.

    Known are lists of texts, lists of objects of text and label, objects of such lists, objects by key
    (``{"A": ...}``), and all of these as JSON or as Python writes them. Empty cells of columns are no choice.
    """
    if len(columns) > 1:
        keys = tuple(_key_of(name) for name in columns)
        pairs = [
            (plain_text(cells[name]), key) for name, key in zip(columns, keys, strict=True) if _is_filled(cells[name])
        ]
        options = Options(tuple(text for text, _ in pairs), tuple(key for _, key in pairs))
    else:
        options = _options(_decoded(cells[columns[0]]))
    return options if len(options.texts) >= 2 else None


def _options(value: Any) -> Options:
    if isinstance(value, Mapping):
        texts = next((value[name] for name in _TEXTS if isinstance(value.get(name), list)), None)
        keys = next((value[name] for name in _KEYS if isinstance(value.get(name), list)), None)
        if texts is None:  # by key
            texts, keys = list(value.values()), list(value)
        return _of(texts, keys)
    if not isinstance(value, list):
        return Options(())
    if all(isinstance(item, Mapping) for item in value):
        texts = [next((item[name] for name in _TEXTS if name in item), None) for item in value]
        return _of(texts, [next((item[name] for name in _KEYS if name in item), None) for item in value])
    return _of(value, None)


def _of(texts: Sequence[Any], keys: Sequence[Any] | None) -> Options:
    if not all(_is_filled(text) and not isinstance(text, (list, Mapping)) for text in texts):
        return Options(())
    named = keys is not None and len(keys) == len(texts) and all(_is_filled(key) for key in keys)
    return Options(tuple(map(plain_text, texts)), tuple(map(plain_text, keys or ())) if named else ())


def _is_filled(cell: Any) -> bool:
    return cell is not None and cell == cell and bool(str(cell).strip())  # noqa: PLR0124 (NaN)


def _key_of(name: str) -> str:
    """Return what a label may call a column of choices: the letter or the number that its name ends with."""
    tail = name.strip()[-1:]
    return tail if tail.isalnum() else name


def _decoded(cell: Any) -> Any:
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    for read in (json.loads, ast.literal_eval, parse_list):
        try:
            return read(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return cell


def which(options: Options, label: Any, reading: Reading) -> int | None:
    """Return the number of the choice that a label names, read in one way; None where it names none."""
    if not _is_filled(label) or isinstance(label, (list, Mapping)):
        return None
    text = plain_text(label).strip()
    count = len(options.texts)
    if reading in ("from 0", "from 1"):
        number = int(text) - (reading == "from 1") if text.isdecimal() else -1
        return number if 0 <= number < count else None
    if reading == "letters":
        number = ord(text.upper()) - ord("A") if len(text) == 1 and text.isalpha() else -1
        return number if 0 <= number < count else None
    names = options.keys if reading == "keys" else tuple(one.strip() for one in options.texts)
    return names.index(text) if text in names else None


def _remarks(guess: Guess) -> list[Problem]:
    """Say how labels were read where that was a choice."""
    beside = (
        f" (others: {', '.join(f'{one} {count:,}' for one, count in guess.alternatives)})" if guess.alternatives else ""
    )
    words = {
        "from 0": "numbers of the choices, counted from 0",
        "from 1": "numbers of the choices, counted from 1",
        "letters": "letters of the choices",
        "keys": "the keys that rows give their choices",
        "texts": "the words of the choices",
    }[guess.chosen]
    return [Problem("note", f"Labels were read as {words}, which explains {guess.explained:,} rows{beside}.")]
