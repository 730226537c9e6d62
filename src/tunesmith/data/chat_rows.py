"""Conversations: the form of chat, instructions with answers, and tool calls.

Whatever they are written as, they become ``text`` (a transcript), ``messages`` (JSON of the
canonical messages of ``messages.py``) and, where a column of tools was chosen, ``tools`` (JSON).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.chat_layout import COMPLETION, MESSAGES, PROMPT, TEXT_ROLES, Cells, Data, Layout, read_row
from tunesmith.data.clean import Tally, plural, tidy_parts
from tunesmith.data.columns import assign_roles
from tunesmith.data.config import CleanConfig
from tunesmith.data.conversations import conversation_roles
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text, require_columns
from tunesmith.data.message_cells import MisfitError, decode_cell
from tunesmith.data.messages import Message, find_flaw, read_tools, transcript
from tunesmith.data.profiles import profile
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, nested_columns
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice, Problem

_MAX_DETAILS = 5


class Conversations(Form):
    """``text``, ``messages`` and perhaps ``tools``; a row's turns are checked for what cannot be learned from."""

    truths: ClassVar[tuple[str, ...]] = (COMPLETION,)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit(
            "no conversation",
            "there is no conversation in them (a list of messages with role and content or from and value was "
            "expected, or a prompt).",
            refuses_prediction=True,
        ),
        Misfit("other form", "they are written otherwise than most rows."),
        Misfit("unknown role", "a turn has a role that is not known.", refuses_prediction=True),
        Misfit(
            "content",
            "a turn holds something other than text (such as an image, which --task image_chat reads).",
            refuses_prediction=True,
            recorded="turns that are no text",
        ),
        Misfit(
            "call",
            "a tool call lacks its name or an object of arguments.",
            refuses_prediction=True,
            recorded="broken calls",
        ),
        Misfit(
            "tools", "the tools are no list of schemas with names.", refuses_prediction=True, recorded="broken tools"
        ),
        Misfit(
            "history",
            "the history holds no pairs of question and answer.",
            refuses_prediction=True,
            recorded="broken history",
        ),
        Misfit("empty turn", "a turn of user or assistant is empty."),
        Misfit("no call", "a tool's result follows no call of it."),
        Misfit("no result", "a call is left without a result before the user's next turn."),
        Misfit("no answer", "there is no turn of the assistant to learn."),
    )
    fitting = MESSAGES
    with_images: ClassVar[bool] = False
    """Whether turns may hold images."""

    def __init__(self, columns: Columns, layout: Layout, shape: tuple[str, ...], *, for_prediction: bool) -> None:
        """``layout`` is how the columns are read, ``shape`` how most rows are written."""
        fields = [("text", pa.string()), (MESSAGES, pa.string())]
        if "tools" in columns:
            fields.append(("tools", pa.string()))
        super().__init__(columns, fields, ["text"])
        self._shape = shape
        self._layout = layout
        self._for_prediction = for_prediction
        self._unknown_roles: Counter[str] = Counter()
        self._num_rows = 0
        self._num_messages = 0
        self._num_data = 0

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        form = cls(columns, Layout.of(datasets, columns), (), for_prediction=wishes.for_prediction)
        shapes: Counter[tuple[str, ...]] = Counter()
        parts = [role for role in (MESSAGES, PROMPT, COMPLETION) if role in columns]
        for dataset in datasets:
            for batch in batches(dataset, list(dict.fromkeys(columns[role][0] for role in parts))):
                shapes.update(map(form._shape_of, form.cells(batch, parts)))
        form._shape = max(shapes, key=lambda shape: ("" not in shape, shapes[shape], shape), default=())
        return form, []

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return the columns of the training as far as they are there, else columns of any chat form, else one text.

        Only what is asked must be there: context, history, tools and answers may be missing.
        """
        columns = column_names(dataset)
        known = [choice for choice in choices if choice.column in columns]
        asked = [choice for choice in choices if choice.role in (MESSAGES, PROMPT)]
        if any(choice.role in (MESSAGES, PROMPT) for choice in known):
            return known
        profiles = profile(dataset)
        roles = conversation_roles(profiles, for_prediction=True)
        if roles is not None:
            found, problems = assign_roles(profiles, roles, {})
            if not any(problem.severity == "error" for problem in problems):
                return list(found)
        if len(columns) == 1 or "text" in columns:
            return [ColumnChoice(PROMPT, columns[0] if len(columns) == 1 else "text", "texts to be answered")]
        require_columns(path, columns, asked)
        return known

    @property
    def label(self) -> str | None:
        return None

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        names = [name for name in (MESSAGES, "tools") if name in self.schema.names]
        return [repr(parts) for parts in zip(*(batch.column(name).to_pylist() for name in names), strict=True)]

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        places = batch.column(ROW)
        cells_N = list(self.cells(batch, self.columns))
        found = [self.read(cells) for cells in cells_N]
        are_data = [isinstance(cells.get(COMPLETION), Data) for cells in cells_N]
        contents = tidy_parts([[turn["content"] for turn in row] for row, _, _ in found], clean, tally, places)
        rows: list[list[Message]] = []
        written: list[str | None] = []
        reasons: list[str] = []
        for (given, _, reason), texts, is_data in zip(found, contents, are_data, strict=True):
            messages = [{**turn, "content": text} for turn, text in zip(given, texts, strict=True)]
            messages = [turn for turn in messages if turn["role"] != "system" or turn["content"].strip()]
            flaw = reason or self.flaw(messages)
            self._num_rows += not flaw
            self._num_messages += 0 if flaw else len(messages)
            self._num_data += not flaw and is_data
            rows.append(messages)
            written.append(None if flaw else json.dumps(messages, ensure_ascii=False))
            reasons.append(flaw)
        for misfit in self.misfits:
            tally.add(misfit.what, np.array([reason == misfit.what for reason in reasons], dtype=np.bool_), places)
        arrays = [pa.array([transcript(row) for row in rows], pa.string()), pa.array(written, pa.string())]
        if "tools" in self.schema.names:
            arrays.append(pa.array([tools for _, tools, _ in found], pa.string()))
        return pa.RecordBatch.from_arrays([*arrays, *self.further(batch), places], schema=self.schema)

    def further(self, batch: pa.RecordBatch) -> list[pa.Array]:  # noqa: ARG002 (of forms that have some)
        """Return the canonical columns between those of every conversation and ``row``."""
        return []

    def flaw(self, messages: Sequence[Message]) -> str:
        """Return what keeps a row from being used, as a misfit's name; nothing where all is well."""
        return "" if self._for_prediction else find_flaw(messages)

    def cells(self, batch: pa.RecordBatch, roles: Iterable[str]) -> Iterator[Cells]:
        """Yield every row's cells of these roles."""
        nested = nested_columns(batch.schema)
        columns = {}
        for role in roles:
            name = self.columns[role][0]
            array = batch.column(name)
            column = (as_text(array) if role in TEXT_ROLES else array).to_pylist()
            columns[role] = [self._layout.read(role, cell, is_nested=name in nested) for cell in column]
        for row in range(batch.num_rows):
            yield {role: column[row] for role, column in columns.items()}

    def read(self, cells: Cells) -> tuple[list[Message], str | None, str]:
        """Return a row's messages and its tools as JSON, or none and what it is a misfit for."""
        try:
            if not self._for_prediction and not _agrees(self._shape_of(cells), self._shape):
                return [], None, "other form"
            messages = self.read_images(cells, read_row(cells, self._layout.as_messages, self.with_images))
            schemas = read_tools(decode_cell(cells.get("tools")))
            json.dumps(messages)  # what calls hold may be nested too deeply to be written
            return messages, None if schemas is None else json.dumps(schemas, ensure_ascii=False), ""
        except MisfitError as error:
            if error.what == "unknown role":
                self._unknown_roles[error.detail] += 1
            return [], None, error.what
        except RecursionError:
            return [], None, "no conversation"

    def read_images(self, cells: Cells, messages: list[Message]) -> list[Message]:  # noqa: ARG002 (of forms that see)
        """Return a row's messages with what is known of their images; raise ``MisfitError`` for those of no use."""
        return messages

    def misfit_words(self, misfit: Misfit) -> str:
        if misfit.what != "unknown role" or not self._unknown_roles:
            return misfit.words
        names = ", ".join(f"'{name[:40]}'" for name, _ in self._unknown_roles.most_common(_MAX_DETAILS))
        return (
            f"a turn has a role that is not known ({names}); known are system, user, assistant and tool, or human, gpt."
        )

    def notes(self) -> list[Problem]:
        if not self._num_rows:
            return []
        mean = self._num_messages / self._num_rows
        number = "1 row" if self._num_rows == 1 else f"{self._num_rows} rows"
        found = [Problem("note", f"Rows are conversations ({self._form_name()}): {number}, {mean:.1f} messages each.")]
        if self._num_data:
            found.append(
                Problem(
                    "note",
                    f"{plural(self._num_data)} of column '{self.columns[COMPLETION][0]}' are data (objects or lists): "
                    "learned as text, written as compact JSON.",
                    count=self._num_data,
                )
            )
        return found

    def _shape_of(self, cells: Cells) -> tuple[str, ...]:
        """Say how a row's conversation is written: the shape of each of its parts, empty for those that are missing."""
        return tuple(
            self._layout.shape_of(role, cells[role]) for role in (MESSAGES, PROMPT, COMPLETION) if role in cells
        )

    def _form_name(self) -> str:
        if MESSAGES in self.columns:
            return ", ".join(_SHAPE_NAMES.get(shape, shape) for shape in self._shape)
        names = [self.columns[role][0] for role in (PROMPT, COMPLETION) if role in self.columns]
        return "alpaca" if names == ["instruction", "output"] else " and ".join(names)


_SHAPE_NAMES = {
    "pairs": "objects of question and answer",
    "turns": "texts by turns",
    "transcript": "texts of Human: and Assistant:",
}


def _agrees(shape: tuple[str, ...], common: tuple[str, ...]) -> bool:
    return all(own in ("", others) for own, others in zip(shape, common, strict=False))
