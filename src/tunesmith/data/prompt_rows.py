"""Questions to be answered by a model that is learning to: the form of prompts, with or without a right answer.

A row becomes what a conversation does (``chat_rows.py``), its right answer, where there is one, being its last turn,
and ``given``: all cells of the row as they stand in the user's file, as JSON. An answer's worth may depend on any.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa

from tunesmith.data.chat_layout import Layout
from tunesmith.data.chat_rows import Conversations
from tunesmith.data.clean import Tally
from tunesmith.data.config import CleanConfig
from tunesmith.data.conversations import COMPLETION, PROMPT, conversation_roles
from tunesmith.data.forms import Columns, Misfit
from tunesmith.data.messages import Message
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, nested_columns
from tunesmith.types import ColumnProfile, Role

GIVEN = "given"
"""The canonical column of the user's own cells."""

_ASKED = replace(PROMPT, names=(*PROMPT.names, "text", "content"))
_REFERENCE = replace(
    COMPLETION,
    names=("reference", "reference_answer", "ground_truth", "final_answer", "gold", *COMPLETION.names),
    required=False,
    purpose="the right answer",
)
PROMPT_ROLES = (_ASKED, _REFERENCE)


def prompt_roles(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    """Return the roles of what is asked: a conversation, or a prompt; the right answer is optional."""
    found = conversation_roles(profiles, overrides, for_prediction=True) or PROMPT_ROLES
    return tuple(_REFERENCE if role.name == COMPLETION.name else role for role in found)


class Prompts(Conversations):
    """``text``, ``messages``, perhaps ``tools``, and ``given``; rows without a right answer are rows all the same."""

    misfits: ClassVar[tuple[Misfit, ...]] = (
        *(misfit for misfit in Conversations.misfits if misfit.what != "no answer"),
        Misfit("no question", "nothing is asked in them.", refuses_prediction=True),
    )

    def __init__(self, columns: Columns, layout: Layout, shape: tuple[str, ...], *, for_prediction: bool) -> None:
        super().__init__(columns, layout, shape, for_prediction=for_prediction)
        self.schema = self.schema.insert(len(self.schema) - 1, pa.field(GIVEN, pa.string()))

    def batches(self, dataset: Rows, clean: CleanConfig, tally: Tally) -> Iterator[pa.RecordBatch]:
        """Yield all rows of a data set as canonical batches: each is made of all its cells."""
        for batch in batches(dataset):
            yield self.make_batch(batch, clean, tally)

    def further(self, batch: pa.RecordBatch) -> list[pa.Array]:
        nested = nested_columns(batch.schema)
        names = [name for name in batch.schema.names if name != ROW]
        columns = [
            [_value(cell, is_nested=name in nested) for cell in batch.column(name).to_pylist()] for name in names
        ]
        rows = (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))
        return [pa.array([json.dumps(row, ensure_ascii=False, default=str) for row in rows], pa.string())]

    def flaw(self, messages: Sequence[Message]) -> str:
        """Return what keeps a prompt from being answered; that there is no right answer does not."""
        found = super().flaw(messages)
        if self._for_prediction or found not in ("", "no answer"):
            return found
        asked = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
        return "" if any(message["content"].strip() for message in asked) else "no question"


def _value(cell: Any, *, is_nested: bool) -> Any:
    """Return a cell as it was in the file: lists and objects are kept as JSON."""
    if not is_nested or not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell
