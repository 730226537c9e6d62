"""Conversations: the form of chat, instructions with answers, and tool calls.

Whatever they are written as, they become ``text`` (a transcript), ``messages`` (JSON of the
canonical messages of ``messages.py``) and, where a column of tools was chosen, ``tools`` (JSON).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.clean import Tally, plural, tidy_parts
from tunesmith.data.columns import assign_roles
from tunesmith.data.config import CleanConfig
from tunesmith.data.conversations import conversation_roles
from tunesmith.data.encodings import has_marks
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text, plain_text, require_columns
from tunesmith.data.messages import (
    CALL,
    Message,
    MisfitError,
    decode_cell,
    find_flaw,
    holds_messages,
    read_history,
    read_messages,
    read_tools,
    shape_of,
    split_transcript,
    transcript,
)
from tunesmith.data.profiles import profile
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, nested_columns
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice, Problem

MESSAGES, PROMPT, COMPLETION = "messages", "prompt", "completion"
"""Roles of which a row consists: all its messages, or what is asked and what is answered."""
_TEXT_ROLES = ("context", "system")
_SPEAKERS = {PROMPT: (), COMPLETION: ("assistant", "tool", CALL)}
"""Whose messages a prompt or an answer can be: none are named where all are."""
_WHOLE = ("chosen", "rejected")
"""Names of answers that may repeat what was asked, as a better and a worse conversation do."""
_MAX_DETAILS = 5

Cells = Mapping[str, Any]
"""A row's cells by role."""


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
        are_data = [isinstance(cells.get(COMPLETION), _Data) for cells in cells_N]
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
            column = (as_text(array) if role in _TEXT_ROLES else array).to_pylist()
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


class _Data(str):
    """Text of a cell that was an object or a list in the file, and is no conversation."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How the columns of conversations are read: decided once for all rows, never by what a single cell looks like."""

    nested: frozenset[str] = frozenset()
    """Roles that have lists or objects in some split."""
    as_messages: frozenset[str] = frozenset()
    """Those of prompt and completion that are lists of messages. All others are text, whatever they look like."""

    @classmethod
    def of(cls, datasets: Sequence[Rows], columns: Columns) -> Self:
        """Look at all cells of the columns."""
        nested = frozenset(
            role
            for role, sources in columns.items()
            if any(sources[0] in nested_columns(dataset.schema) for dataset in datasets)
        )
        asked = [role for role in (PROMPT, COMPLETION) if role in columns]
        as_messages = frozenset(role for role in asked if _are_messages(role, datasets, columns[role][0]))
        return cls(nested, as_messages)

    def read(self, role: str, cell: Any, *, is_nested: bool) -> Any:
        """Return what a cell says: a text for roles that are texts (data as compact JSON), else the cell.

        ``is_nested`` says whether its own split has lists or objects in the column: texts are JSON strings there, and
        themselves elsewhere.
        """
        if is_nested and role in (*_TEXT_ROLES, PROMPT, COMPLETION) and isinstance(cell, str):
            try:
                value = json.loads(cell)
            except (ValueError, RecursionError):
                return cell
            if isinstance(value, str):
                return cell if has_marks(value) else value
            is_other = role not in _TEXT_ROLES and holds_messages(value, _SPEAKERS[role])
            return cell if role in self.as_messages or is_other else _written(value)
        if role in (PROMPT, COMPLETION) and role not in self.as_messages and isinstance(cell, list):
            return _written(cell)
        return cell

    def shape_of(self, role: str, cell: Any) -> str:
        """Say how one part of a conversation is written; empty where it is missing or nothing that can be read."""
        if role == MESSAGES:
            return _shape_of_messages(cell)
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return ""
        if isinstance(cell, _Data) or (role not in self.as_messages and role not in self.nested):
            return "text"
        shape = _shape_of_messages(cell)
        # In a column of texts a list of messages is written otherwise than the rest, and the other way round.
        return shape if shape in ("messages", "sharegpt") else "text"


def _written(value: Any) -> Any:
    """Return data as compact JSON; scalars stay what they are."""
    if isinstance(value, (dict, list)):
        return _Data(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return value


def _are_messages(role: str, datasets: Sequence[Rows], column: str) -> bool:
    """Say whether most cells of a column certainly are messages of those who speak there."""
    speakers = () if column.strip().lower().startswith(_WHOLE) else _SPEAKERS[role]
    num_present = num_messages = 0
    for dataset in datasets:
        for batch in batches(dataset, [column]):
            for cell in batch.column(0).to_pylist():
                if cell is None or (isinstance(cell, str) and not cell.strip()):
                    continue
                num_present += 1
                if isinstance(cell, str) and cell.lstrip()[:1] in "[{":
                    num_messages += _certainly(cell, speakers)
    return num_messages > 0.5 * num_present


def _certainly(cell: str, speakers: Sequence[str]) -> bool:
    try:
        return holds_messages(decode_cell(cell), speakers)
    except (MisfitError, RecursionError):
        return False


def _shape_of_messages(cell: Any) -> str:
    try:
        value = decode_cell(cell)
        if isinstance(value, str):
            return "transcript" if split_transcript(value) else ""
        return shape_of(value) or ""
    except (MisfitError, RecursionError):
        return ""


def _agrees(shape: tuple[str, ...], common: tuple[str, ...]) -> bool:
    return all(own in ("", others) for own, others in zip(shape, common, strict=False))


def read_row(cells: Cells, as_messages: frozenset[str], with_images: bool = False) -> list[Message]:
    """Return the messages of a row's cells, those of the roles ``as_messages`` being lists of messages.

    Images among them are no misfits ``with_images`` alone.
    Raises ``MisfitError`` where they hold none.
    """
    if MESSAGES in cells:
        value = decode_cell(cells[MESSAGES])
        turns = split_transcript(value) if isinstance(value, str) else None
        messages = turns or read_messages(value, with_images=with_images)
    else:
        earlier = read_history(decode_cell(cells.get("history")))
        asked = _read_prompt(
            cells[PROMPT], cells.get("context"), is_list=PROMPT in as_messages, with_images=with_images
        )
        answered = _read_completion(cells.get(COMPLETION), is_list=COMPLETION in as_messages, with_images=with_images)
        if any(turn["role"] == "user" and turn["content"] == asked[-1]["content"] for turn in answered):
            asked = []  # the answer is the whole conversation
        messages = [*earlier, *asked, *answered]
    system = cells.get("system")
    if system and system.strip() and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _read_prompt(cell: Any, context: Any, *, is_list: bool, with_images: bool) -> list[Message]:
    """Return the messages of what is asked: a text, with its context on a line of its own, or a list of messages."""
    if is_list and cell is not None and not (isinstance(cell, str) and _is_text(cell)):
        # The assistant's turns in it are given, not to be learned.
        return [
            {"train": False, **turn} if turn["role"] == "assistant" else turn
            for turn in read_messages(decode_cell(cell), with_images=with_images)
        ]
    parts = [text for text in (_text(cell), _text(context)) if text.strip()]
    return [{"role": "user", "content": "\n".join(parts)}]


def _read_completion(cell: Any, *, is_list: bool, with_images: bool) -> list[Message]:
    if is_list and cell is not None and not (isinstance(cell, str) and _is_text(cell)):
        return read_messages(decode_cell(cell), with_images=with_images)
    text = _text(cell)
    return [{"role": "assistant", "content": text}] if text.strip() else []


def _is_text(cell: str) -> bool:
    """Say whether a cell of a column of messages is a text all the same (for prediction it may be)."""
    return isinstance(cell, _Data) or _shape_of_messages(cell) not in ("messages", "sharegpt")


def _text(cell: Any) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, (bool, int, float)):
        return plain_text(cell)
    raise MisfitError("content")
