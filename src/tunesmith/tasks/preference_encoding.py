"""Questions with several answers each as rows of numbers: one sequence an answer, kept together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.tasks.chat.encoding import Conversation, ConversationEncoder, read_messages, read_tools
from tunesmith.tasks.chat.template import Message
from tunesmith.tasks.objectives.preference import ELSEWHERE
from tunesmith.tasks.rows import Columns

IntArray = npt.NDArray[np.int64]

NO_ANSWERS = "have no answers that can be compared"
NOTHING_LEFT = "have an answer of which nothing is left to learn, or which the chat template writes in several pieces"


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """What is asked, with answers, the best first."""

    prompt: list[Message]
    answers: list[list[Message]]
    ranks: list[int]
    tools: list[Any] | None

    def conversation(self, answer: Sequence[Message]) -> Conversation:
        """Return what is asked, of which nothing is learned, and an answer, of which all turns of the model are."""
        asked = [{**message, "train": False} for message in self.prompt]
        answered = [{**message, "train": message["role"] == "assistant"} for message in answer]
        return [*asked, *answered], self.tools


def read_rows(columns: Columns, system: str | None) -> list[AnsweredRow]:
    """Return rows given by their canonical columns; without answers where these cannot be compared."""
    num_rows = len(columns["answers"])
    tools = columns.get("tools") or [None] * num_rows
    return [
        AnsweredRow(
            read_messages(columns["prompt"][row], system),
            _decoded(columns["answers"][row]),
            _decoded(columns["ranks"][row]),
            read_tools(tools[row]),
        )
        for row in range(num_rows)
    ]


def _decoded(cell: Any) -> list[Any]:
    found: list[Any] = json.loads(cell) if isinstance(cell, str) else list(cell or ())
    return found


def encode_answers(
    rows: Sequence[AnsweredRow], encoder: ConversationEncoder, place: Callable[[int], str], *, with_others: bool
) -> Encoded:
    """Encode rows; with ``with_others`` each has, as its last sequence, another row's answer to what it asks.

    Targets, of every token read: ``labels``; ``answer``, the number of its sequence within the row; ``rank``, how good
    that is. A row that loses a sequence has none (``left_out``, but for those too long that are dropped by choice).
    """
    counts_N = np.array([len(row.answers) + (with_others and bool(row.answers)) for row in rows], dtype=np.int64)
    row_of_C = np.repeat(np.arange(len(rows)), counts_N)
    ranks_C = np.array([rank for row in rows for rank in _ranks(row, with_others)], dtype=np.int8)
    found = encoder.encode(_conversations(rows, with_others), lambda index: place(int(row_of_C[index])))
    pieces_C = np.ones(len(row_of_C), dtype=np.int64) if found.rows is None else np.diff(found.rows)
    is_whole_N = (np.bincount(row_of_C, weights=pieces_C != 1, minlength=len(rows)) == 0) & (counts_N > 0)
    kept_C = np.flatnonzero(is_whole_N[row_of_C])
    first_C = np.arange(len(row_of_C)) if found.rows is None else found.rows[:-1]
    chosen = found.select(first_C[kept_C])
    assert chosen.reads is not None
    counts_N = np.where(is_whole_N, counts_N, 0)
    borders = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts_N)])
    answers_S = np.arange(borders[-1]) - np.repeat(borders[:-1], counts_N)

    def of_tokens(values_S: Array) -> Ragged:
        reads = as_ragged(chosen.reads)
        return Ragged(np.repeat(values_S, reads.lengths), reads.offsets)

    return Encoded(
        chosen.inputs,
        {
            "labels": chosen.targets["labels"],
            "answer": of_tokens(answers_S.astype(np.int16)),
            "rank": of_tokens(ranks_C[kept_C]),
        },
        found.num_truncated,
        chosen.reads,
        borders,
        keeps_rows=True,
        left_out=_left_out(found, row_of_C, is_whole_N, drops=encoder.too_long == "drop"),
        remarks={words: min(count, len(rows)) for words, count in found.remarks.items()},
    )


def _ranks(row: AnsweredRow, with_others: bool) -> list[int]:
    return [*row.ranks, *([ELSEWHERE] if with_others and row.answers else [])]


def _conversations(rows: Sequence[AnsweredRow], with_others: bool) -> Iterator[Conversation]:
    """Yield what is asked with each answer and, with ``with_others``, with the first answer of the row before."""
    answered = [row for row in rows if row.answers]
    for index, row in enumerate(answered):
        yield from (row.conversation(answer) for answer in row.answers)
        if with_others:
            yield row.conversation(answered[index - 1].answers[0])


def _left_out(found: Encoded, row_of_C: IntArray, is_whole_N: Any, *, drops: bool) -> Mapping[str, tuple[int, ...]]:
    """Return the rows that lost a sequence, by the reason: each once."""
    left_out, known = dict[str, tuple[int, ...]](), set[int]()
    for reason, conversations in found.left_out.items():
        rows = sorted({int(row_of_C[index]) for index in conversations} - known)
        known |= set(rows)
        if rows:
            left_out[reason] = tuple(rows)
    missing = tuple(row for row in range(len(is_whole_N)) if row not in set(row_of_C.tolist()))
    if missing:
        left_out[NO_ANSWERS] = missing
    rest = [row for row in np.flatnonzero(~is_whole_N).tolist() if row not in known and row not in missing]
    if rest and not drops:
        left_out[NOTHING_LEFT] = tuple(rest)
    return left_out
