"""How the columns of conversations are read, and the messages that a row's cells are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tunesmith.data.encodings import has_marks
from tunesmith.data.forms import Columns, plain_text
from tunesmith.data.message_cells import MisfitError, decode_cell
from tunesmith.data.messages import (
    CALL,
    Message,
    holds_messages,
    read_history,
    read_messages,
    shape_of,
    split_transcript,
)
from tunesmith.data.rows import Rows, batches, nested_columns

MESSAGES, PROMPT, COMPLETION = "messages", "prompt", "completion"
"""Roles of which a row consists: all its messages, or what is asked and what is answered."""
TEXT_ROLES = ("context", "system")
_SPEAKERS = {PROMPT: (), COMPLETION: ("assistant", "tool", CALL)}
"""Whose messages a prompt or an answer can be: none are named where all are."""
_WHOLE = ("chosen", "rejected")
"""Names of answers that may repeat what was asked, as a better and a worse conversation do."""

Cells = Mapping[str, Any]
"""A row's cells by role."""


class Data(str):
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
        if is_nested and role in (*TEXT_ROLES, PROMPT, COMPLETION) and isinstance(cell, str):
            try:
                value = json.loads(cell)
            except (ValueError, RecursionError):
                return cell
            if isinstance(value, str):
                return cell if has_marks(value) else value
            is_other = role not in TEXT_ROLES and holds_messages(value, _SPEAKERS[role])
            return cell if role in self.as_messages or is_other else _written(value)
        if role in (PROMPT, COMPLETION) and role not in self.as_messages and isinstance(cell, list):
            return _written(cell)
        return cell

    def shape_of(self, role: str, cell: Any) -> str:
        """Say how one part of a conversation is written; empty where it is missing or nothing that can be read."""
        if role == MESSAGES:
            return shape_of_messages(cell)
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return ""
        if isinstance(cell, Data) or (role not in self.as_messages and role not in self.nested):
            return "text"
        shape = shape_of_messages(cell)
        # In a column of texts a list of messages is written otherwise than the rest, and the other way round.
        return shape if shape in ("messages", "sharegpt") else "text"


def _written(value: Any) -> Any:
    """Return data as compact JSON; scalars stay what they are."""
    if isinstance(value, (dict, list)):
        return Data(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
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


def shape_of_messages(cell: Any) -> str:
    """Say how a cell of messages is written; empty where it holds none."""
    try:
        value = decode_cell(cell)
        if isinstance(value, str):
            return "transcript" if split_transcript(value) else ""
        return shape_of(value) or ""
    except (MisfitError, RecursionError):
        return ""


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
    return isinstance(cell, Data) or shape_of_messages(cell) not in ("messages", "sharegpt")


def _text(cell: Any) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, (bool, int, float)):
        return plain_text(cell)
    raise MisfitError("content")
