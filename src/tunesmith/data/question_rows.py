"""Questions on a text whose answers stand in it: the form of extractive question answering.

``context`` and ``question`` are the user's texts, of which the context is never tidied: answers are places in it, and a
prediction's places must be true of the text as it was given. ``answers`` are spans of the context, none where a
question has no answer in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.answer_places import Placed, place_answers, read_answers
from tunesmith.data.clean import Tally, plural, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, nested_columns
from tunesmith.types import Problem

CONTEXT, QUESTION, ANSWERS = "context", "question", "answers"
START, UNANSWERABLE = "answer_start", "unanswerable"

SPAN = pa.struct([("text", pa.string()), ("start", pa.int32())])
_YES = frozenset({"true", "1", "1.0", "yes", "t", "y"})


class Questions(Form):
    """``context``, ``question`` and, if known, ``answers``: a list of ``text`` and ``start`` (a character)."""

    truths: ClassVar[tuple[str, ...]] = (ANSWERS, START, UNANSWERABLE)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit(
            "answers",
            "their answers are none: a text, a list of texts, or objects of text and answer_start were expected, with "
            "as many places as texts.",
            recorded="answers that cannot be read",
        ),
        Misfit(
            "absent",
            "none of their answers stands in the context; if answers are written freely: --task causal_lm with the "
            "columns data.columns.prompt and data.columns.completion.",
            recorded="answers that are not in the context",
        ),
        Misfit(
            "moved",
            "an answer does not stand where its answer_start says.",
            recorded="answers that stand elsewhere than said",
        ),
    )

    def __init__(self, columns: Columns, *, wishes: Wishes) -> None:
        fields: list[tuple[str, pa.DataType]] = [(CONTEXT, pa.string()), (QUESTION, pa.string())]
        if ANSWERS in columns:
            fields.append((ANSWERS, pa.list_(SPAN)))
            self.fitting = ANSWERS
        # Rows that cannot be used are shown in this order: contexts are long.
        roles = (ANSWERS, START, UNANSWERABLE, QUESTION, CONTEXT)
        super().__init__({role: columns[role] for role in roles if role in columns}, fields, [CONTEXT, QUESTION])
        self._is_strict = wishes.is_strict
        self._found = Tally()
        self._num_answers: Counter[bool] = Counter()

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        del datasets  # what an answer is and where it stands, each row says
        return cls(columns, wishes=wishes), []

    @property
    def label(self) -> str | None:
        return self.fitting

    @property
    def reads_beginning(self) -> bool:
        """Long contexts are read in windows, to their end."""
        return False

    def unlabelled(self, batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """No answer is what an empty cell says."""
        return np.zeros(batch.num_rows, dtype=np.bool_)

    def summaries(self, batch: pa.RecordBatch) -> list[Any]:
        """Return 1.0 where there is an answer: an amount, by which splits are mixed, and no name of a class."""
        return [float(bool(answers)) for answers in super().summaries(batch)]

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        return [json.dumps(answers, ensure_ascii=False) for answers in super().contents(batch)]

    def notes(self) -> list[Problem]:
        num_without, total = self._num_answers[False], self._num_answers.total()
        found = []
        if num_without:
            message = f"{plural(num_without)} of {total} have no answer: it is learned that their context holds none."
            found.append(Problem("note", message, "Remove them if nobody has answered them yet.", count=num_without))
        several = "{rows} have an answer without a place that stands at several of their context: each counts as right."
        return [
            *found,
            *self._found.problem(
                "moved",
                "{rows} have an answer that does not stand where its answer_start says; the nearest place at which it "
                "stands was taken.",
                "To refuse such rows: data.bad_rows refuse.",
                is_warning=True,
            ),
            *self._found.problem("doubtful", several, "Give the places as a column answer_start.", is_warning=True),
            *self._found.problem("mended", "{rows} have an answer that is in the context but for case or white space."),
            *self._found.problem(
                "some absent",
                "{rows} have, beside answers of their context, others that are not in it; those count for nothing.",
                is_warning=True,
            ),
        ]

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        places = batch.column(ROW)
        contexts = as_text(batch.column(self.columns[CONTEXT][0]))
        questions = tidy_text(as_text(batch.column(self.columns[QUESTION][0])), clean, tally, places)
        arrays = [contexts, questions]
        if ANSWERS in self.columns:
            arrays.append(self._answers(batch, contexts.to_pylist(), tally))
        return pa.RecordBatch.from_arrays([*arrays, places], schema=self.schema)

    def _answers(self, batch: pa.RecordBatch, contexts: Sequence[str | None], tally: Tally) -> pa.Array:
        rows: list[Placed | str] = [
            self._row(context or "", *cells) for context, cells in zip(contexts, self._cells(batch), strict=True)
        ]
        places = batch.column(ROW)
        for misfit in self.misfits:
            tally.add(misfit.what, _mask(row == misfit.what for row in rows), places)
        placed = [row for row in rows if isinstance(row, Placed)]
        self._num_answers.update(bool(row.spans) for row in placed)
        for what, mask in (
            ("moved", _mask(isinstance(row, Placed) and row.was_moved for row in rows)),
            ("doubtful", _mask(isinstance(row, Placed) and row.is_doubtful for row in rows)),
            ("mended", _mask(isinstance(row, Placed) and row.was_mended for row in rows)),
            ("some absent", _mask(isinstance(row, Placed) and row.num_absent > 0 for row in rows)),
        ):
            self._found.add(what, mask, places)
        listed = [
            None
            if isinstance(row, str)
            else [{"text": (context or "")[span.start : span.end], "start": span.start} for span in row.spans]
            for context, row in zip(contexts, rows, strict=True)
        ]
        return pa.array(listed, pa.list_(SPAN))

    def _cells(self, batch: pa.RecordBatch) -> Iterator[tuple[Any, Any, Any]]:
        """Yield answers, their places and whether there are none, as the user's columns have them."""
        nested = nested_columns(batch.schema)
        cells = []
        for role in (ANSWERS, START, UNANSWERABLE):
            name = self.columns[role][0] if role in self.columns else None
            column = [None] * batch.num_rows if name is None else batch.column(name).to_pylist()
            cells.append([_of_nested(cell) if name in nested else cell for cell in column])
        yield from zip(*cells, strict=True)

    def _row(self, context: str, answers: Any, starts: Any, unanswerable: Any) -> Placed | str:
        """Return where a row's answers stand, or what it is a misfit for."""
        if str(unanswerable).strip().lower() in _YES:
            return Placed(())
        found = read_answers(answers, starts)
        if found is None:
            return "answers"
        placed = place_answers(context, found)
        if found and not placed.spans:
            return "absent"
        return "moved" if placed.was_moved and self._is_strict else placed


def _of_nested(cell: Any) -> Any:
    """Return what the JSON of a cell that was nested in the file says."""
    return cell if cell is None else json.loads(cell)


def _mask(values: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.fromiter(values, dtype=np.bool_)
