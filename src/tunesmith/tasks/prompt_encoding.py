"""Questions as rows of numbers with room for an answer, and the same with the answers that were written to them.

Shapes: N questions, A answers, U tokens of all answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.tasks.asked_question import Question
from tunesmith.tasks.causal_lm import parted, transcript
from tunesmith.tasks.chat.encoding import read_messages
from tunesmith.tasks.columns import place
from tunesmith.tasks.objectives.group_relative import WEIGHT
from tunesmith.tasks.rows import Columns

IntArray = npt.NDArray[np.int64]

QUESTIONS = "questions"
"""The extra that holds each row's ``Question``, as JSON in UTF-8."""


def questions_of(columns: Columns, system: str | None) -> list[Question]:
    """Return what is asked in each row, with all that its answer may be judged by."""
    given = columns.get("given") or [None] * len(columns["messages"])
    found = []
    for row, (cell, own) in enumerate(zip(columns["messages"], given, strict=True)):
        asked, answer = parted(read_messages(cell, system))
        users = [message for message in asked if message["role"] != "system"]
        reference = None if answer is None else str(answer["content"])
        cells: dict[str, Any] = json.loads(own) if own else {}
        found.append(Question(transcript(users), asked, reference, cells, place("row", columns, row)))
    return found


def with_room(prompts: Encoded, questions: Sequence[Question], max_new_tokens: int, filler: int) -> Encoded:
    """Return prompts with room for the longest answer behind each, so that memory and time are planned for it.

    What is drawn in a step takes its place: see ``with_answers``. A row keeps its question as an extra.
    """
    ids = as_ragged(prompts.inputs["input_ids"])
    room = [filler] * max_new_tokens
    rows = [[*ids[row].tolist(), *room] for row in range(len(ids))]
    texts = [np.frombuffer(question.to_json().encode(), dtype=np.uint8) for question in questions]
    found = joined(rows, ids.lengths, np.ones(len(ids)))
    return Encoded(
        found.inputs,
        found.targets,
        prompts.num_truncated,
        found.reads,
        np.arange(len(ids) + 1),
        keeps_rows=True,
        extras={QUESTIONS: Ragged.from_rows(texts, np.uint8)},
    )


def without_room(data: Encoded, samples: IntArray, max_new_tokens: int) -> Ragged:
    """Return the ids of the prompts of these rows."""
    ids = as_ragged(data.inputs["input_ids"])
    return Ragged.from_rows([ids[row][:-max_new_tokens] for row in samples.tolist()], np.int32)


def read_questions(data: Encoded, samples: IntArray) -> list[Question]:
    """Return the questions of these rows."""
    texts = as_ragged(data.extras[QUESTIONS])
    return [Question.from_json(texts[row].tobytes()) for row in samples.tolist()]


def joined(rows: Sequence[Sequence[int]], prompt_lengths: IntArray, weights_A: npt.NDArray[Any]) -> Encoded:
    """Return prompts with answers: read where the answers are predicted.

    Targets, of every token of an answer: ``labels``, and ``weight``, that of its answer.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    counts = lengths - prompt_lengths
    places = [np.arange(first - 1, last - 1) for first, last in zip(prompt_lengths, lengths, strict=True)]
    reads = Ragged.from_rows(places, np.int32)
    labels: list[Array] = [
        np.asarray(row[first:], dtype=np.int64) for row, first in zip(rows, prompt_lengths.tolist(), strict=True)
    ]
    return Encoded(
        {"input_ids": Ragged.from_rows(rows, np.int32)},
        {
            "labels": Ragged(np.concatenate([*labels, np.zeros(0, dtype=np.int64)]), reads.offsets),
            WEIGHT: Ragged(np.repeat(weights_A, counts).astype(np.float32), reads.offsets),
        },
        reads=reads,
    )


def with_answers(prompts: Ragged, copies: int, tokens: Sequence[Sequence[int]], weights_A: npt.NDArray[Any]) -> Encoded:
    """Return the answers, ``copies`` to each prompt, each behind its prompt as a sequence of its own."""
    lengths = np.repeat(prompts.lengths, copies)
    rows = [[*prompts[index // copies].tolist(), *answer] for index, answer in enumerate(tokens)]
    return joined(rows, lengths, weights_A)


def of_answers(values_A: npt.NDArray[Any], like: Encoded) -> Ragged:
    """Return a value of each answer as one of each of its tokens."""
    reads = as_ragged(like.reads)
    return Ragged(np.repeat(values_A, reads.lengths).astype(np.float32), reads.offsets)
