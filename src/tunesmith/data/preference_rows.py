"""Preferences: the form of answers of which one is better than another, or each is good or bad.

However they are written, a row becomes ``text`` (a transcript of what is asked), ``messages`` (that with its best
answer), ``prompt`` (the messages asked), ``answers`` (the messages of each answer, the best first) and ``ranks`` (of
each answer: 0 for the best, equal where two are as good; of answers with thumbs 0 for good and 1 for bad), and, where a
column of tools was chosen, ``tools``. All but the first are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data import preferences
from tunesmith.data.chat_rows import COMPLETION, MESSAGES, PROMPT, Cells, Conversations, read_row
from tunesmith.data.clean import Tally, plural, tidy_parts
from tunesmith.data.config import CleanConfig
from tunesmith.data.conversations import COMPLETION as ANSWER
from tunesmith.data.conversations import find_column
from tunesmith.data.forms import Columns, Form, Misfit, Wishes
from tunesmith.data.marks import read_thumb
from tunesmith.data.messages import Message, MisfitError, decode_cell, find_flaw, holds_messages, transcript
from tunesmith.data.profiles import profile
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice, Problem

CHOSEN, REJECTED, ANSWERS, SCORES, THUMB = (
    role.name
    for role in (
        preferences.CHOSEN,
        preferences.REJECTED,
        preferences.ANSWERS,
        preferences.SCORES,
        preferences.THUMB,
    )
)
_OF_ANSWERS = (CHOSEN, REJECTED, ANSWERS, SCORES, THUMB, COMPLETION, MESSAGES)
_TEXT_KEYS = ("response", "answer", "completion", "text", "content", "output", "generation")
_SCORE_KEYS = ("score", "overall_score", "rating", "reward")


@dataclass(frozen=True, slots=True)
class _Read:
    """A row as it was read."""

    conversations: Sequence[list[Message]]
    """What is asked with each of its answers, the best first."""
    ranks: Sequence[int]
    tools: str | None = None
    reason: str = ""
    """What it is a misfit for, if anything."""


class Preferences(Form):
    """What is asked once, and its answers in the order of their worth."""

    truths: ClassVar[tuple[str, ...]] = (CHOSEN, REJECTED, ANSWERS, SCORES, THUMB, COMPLETION)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        *Conversations.misfits,
        Misfit("same answers", "the better answer and the worse one are the same.", recorded="equal answers"),
        Misfit("apart", "the answers are not to the same question: their conversations differ before the last turn."),
        Misfit("one answer", "there are fewer than two answers to compare."),
        Misfit("as good", "all answers have the same score, so that none is better."),
        Misfit("scores", "there is not one score (a number) for each answer.", recorded="broken scores"),
        Misfit("no thumb", "they say neither yes nor no of the answer."),
    )
    fitting = MESSAGES

    def __init__(self, columns: Columns, sides: Mapping[str, Conversations], *, for_prediction: bool) -> None:
        """``sides`` read the conversation of each column of answers."""
        fields = [("text", pa.string()), (MESSAGES, pa.string())]
        self._has_answers = _are_complete(columns)
        if self._has_answers:
            fields += [(name, pa.string()) for name in (PROMPT, "answers", "ranks")]
        if "tools" in columns:
            fields.append(("tools", pa.string()))
        super().__init__(columns, fields, ["text"])
        self._sides = sides
        self._for_prediction = for_prediction
        self._num_rows = self._num_answers = 0

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        sides = {}
        for role in _columns_of_answers(columns):
            asked = {name: given for name, given in columns.items() if name not in _OF_ANSWERS}
            if role not in (ANSWERS, PROMPT):
                asked[COMPLETION if PROMPT in columns else MESSAGES] = columns[role]
            sides[role], _ = Conversations.learn(datasets, asked, wishes)
        return cls(columns, sides, for_prediction=wishes.for_prediction), []

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return the columns of the training, where what is asked is among them, else those of any chat form.

        Where nothing says which answers are better there may be one to each question, under any usual name.
        """
        columns = column_names(dataset)
        known = [choice for choice in choices if choice.column in columns]
        if any(choice.role in (PROMPT, MESSAGES, CHOSEN) for choice in known):
            if _are_complete({choice.role: (choice.column,) for choice in known}):
                return known
            known = [choice for choice in known if choice.role not in (REJECTED, ANSWERS, SCORES, THUMB)]
            return [*known, *_answers_alone(dataset, known)]
        return Conversations.choices_for(path, dataset, [one for one in choices if one.role not in cls.truths])

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        names = [name for name in (MESSAGES, "answers", "ranks", "tools") if name in self.schema.names]
        return [repr(parts) for parts in zip(*(batch.column(name).to_pylist() for name in names), strict=True)]

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        places = batch.column(ROW)
        found = [self._read(cells) for cells in self._cells(batch)]
        contents = tidy_parts(
            [[turn["content"] for turns in row.conversations for turn in turns] for row in found], clean, tally, places
        )
        rows = [self._written(row, iter(texts)) for row, texts in zip(found, contents, strict=True)]
        reasons = [reason for _, reason in rows]
        for misfit in self.misfits:
            tally.add(misfit.what, np.array([reason == misfit.what for reason in reasons], dtype=np.bool_), places)
        named = {name: [values.get(name) for values, _ in rows] for name in self.schema.names if name != "row"}
        arrays = [pa.array(column, pa.string()) for column in named.values()]
        return pa.RecordBatch.from_arrays([*arrays, places], schema=self.schema)

    def notes(self) -> list[Problem]:
        if not self._num_rows or not self._has_answers:
            return []
        if THUMB in self.columns:
            what = "answers with a thumb"
        elif ANSWERS in self.columns:
            what = f"ranked answers, {self._num_answers / self._num_rows:.1f} each"
        else:
            what = "pairs of a better and a worse answer"
        return [Problem("note", f"Rows are preferences ({what}): {plural(self._num_rows)}.")]

    def misfit_words(self, misfit: Misfit) -> str:
        said = (side.misfit_words(misfit) for side in self._sides.values())
        return next((words for words in said if words != misfit.words), misfit.words)

    # ---- from cells to answers -------------------------------------------------------------------

    def _cells(self, batch: pa.RecordBatch) -> Iterator[dict[str, Cells]]:
        """Yield every row's cells: of each side, and of the columns that say how good answers are."""
        sides = {role: list(side.cells(batch, side.columns)) for role, side in self._sides.items()}
        judging = [role for role in (ANSWERS, SCORES, THUMB) if role in self.columns and self._has_answers]
        judged = {role: batch.column(self.columns[role][0]).to_pylist() for role in judging}
        for row in range(batch.num_rows):
            own = {role: cells[row] for role, cells in sides.items()}
            yield own | {"": {role: cells[row] for role, cells in judged.items()}}

    def _read(self, cells: Mapping[str, Cells]) -> _Read:
        try:
            if ANSWERS in self._sides and self._has_answers:
                return self._ranked(cells[ANSWERS], cells[""])
            read = [self._sides[role].read(cells[role]) for role in self._sides]
            reason = next((reason for _, _, reason in read if reason), "")
            ranks = list(range(len(read)))
            if THUMB in cells[""]:
                is_good = read_thumb(cells[""][THUMB])
                reason, ranks = reason or ("no thumb" if is_good is None else ""), [int(not is_good)]
            return _Read([messages for messages, _, _ in read], ranks, read[0][1], reason)
        except MisfitError as error:
            return _Read([], [], reason=error.what)
        except RecursionError:
            return _Read([], [], reason="no conversation")

    def _ranked(self, asked: Cells, judged: Cells) -> _Read:
        _, tools, reason = self._sides[ANSWERS].read(asked)
        if reason:
            return _Read([], [], reason=reason)
        items = decode_cell(judged[ANSWERS])
        items = [decode_cell(item) for item in items] if isinstance(items, list) else []
        if len(items) < 2:
            return _Read([], [], reason="one answer")
        ranks = _ranks(_scores(judged.get(SCORES), items, self._are_ranks), len(items))
        order = sorted(range(len(items)), key=ranks.__getitem__)
        conversations = [_answered(asked, items[index]) for index in order]
        ranks = [ranks[index] for index in order]
        return _Read(conversations, ranks, tools, "as good" if ranks[0] == ranks[-1] else "")

    @property
    def _are_ranks(self) -> bool:
        """Whether lower numbers are better."""
        name = self.columns[SCORES][0].strip().lower() if SCORES in self.columns else ""
        return name in preferences.RANKS_NAMES

    def _written(self, row: _Read, texts: Iterator[str]) -> tuple[dict[str, str | None], str]:
        """Return the canonical cells of a row, whose turns have these texts now, and what it is a misfit for."""
        conversations = [
            [{**turn, "content": text} for turn, text in zip(turns, islice(texts, len(turns)), strict=True)]
            for turns in row.conversations
        ]
        conversations = [[turn for turn in turns if _is_said(turn)] for turns in conversations]
        reason = row.reason
        prompt: list[Message] = []
        answers: list[list[Message]] = []
        if not reason and not self._for_prediction:
            reason = next(filter(None, map(find_flaw, conversations)), "")
        if not reason and self._has_answers:
            prompt, answers, reason = _parted(conversations)
        elif not reason:
            prompt = conversations[0]
        if reason and not (self._for_prediction and conversations and reason in _UNCOMPARED):
            return {"text": "\n".join(map(transcript, conversations[:1])), "tools": row.tools}, reason
        self._num_rows += 1
        self._num_answers += len(answers)
        best = answers[0] if answers and row.ranks[0] == 0 else []
        if not self._has_answers or reason:
            prompt, answers = conversations[0], []
        cells = {
            "text": transcript(prompt),
            MESSAGES: _json([*prompt, *best]),
            PROMPT: _json(prompt),
            "answers": _json(answers) if answers else None,
            "ranks": _json(list(row.ranks)) if answers else None,
            "tools": row.tools,
        }
        return cells, ""


_UNCOMPARED = ("same answers", "apart")
"""Misfits that can be answered all the same."""


def _answers_alone(dataset: Rows, known: Sequence[ColumnChoice]) -> list[ColumnChoice]:
    """Return the column that holds an answer to what the known ones ask; none where it is among them or missing."""
    if PROMPT not in {choice.role for choice in known} or {CHOSEN, COMPLETION} & {choice.role for choice in known}:
        return []
    taken = {choice.column for choice in known}
    profiles = {name: column for name, column in profile(dataset).items() if name not in taken}
    answers = find_column(profiles, ANSWER)
    return [] if answers is None else [ColumnChoice(COMPLETION, answers.name, "what was answered")]


def _are_complete(columns: Mapping[str, Any]) -> bool:
    """Say whether all columns are there that tell good answers from bad ones."""
    return {CHOSEN, REJECTED} <= columns.keys() or ANSWERS in columns or THUMB in columns


def _columns_of_answers(columns: Columns) -> list[str]:
    """Return the roles of the columns that hold answers, the better ones first, else of what is asked."""
    if ANSWERS in columns:
        return [ANSWERS]
    pairs = [role for role in (CHOSEN, REJECTED) if role in columns]
    return pairs or [next(role for role in (COMPLETION, MESSAGES, PROMPT) if role in columns)]


def _answered(asked: Cells, item: Any) -> list[Message]:
    """Return what is asked with one answer of a list: a text, an object with one, or messages."""
    if holds_messages(item):
        return read_row({**asked, COMPLETION: item}, frozenset({COMPLETION}))
    if isinstance(item, Mapping):
        item = next((item[key] for key in _TEXT_KEYS if isinstance(item.get(key), str)), None)
    if not isinstance(item, str):
        raise MisfitError("content")
    return read_row({**asked, COMPLETION: item}, frozenset())


def _scores(given: Any, items: Sequence[Any], are_ranks: bool) -> list[float] | None:
    """Return how good each answer is; None where nothing says so but their order. Raises ``MisfitError``."""
    values = decode_cell(given)
    if values is None:
        own = [next((item[key] for key in _SCORE_KEYS if key in item), None) for item in items if _is_object(item)]
        if not any(value is not None for value in own):
            own = [item.get("rank") for item in items if _is_object(item)]
            are_ranks = True
        if not any(value is not None for value in own):
            return None
        values = own
    if not isinstance(values, list) or len(values) != len(items):
        raise MisfitError("scores")
    try:
        scores = [float(value) for value in values]
    except (TypeError, ValueError):
        raise MisfitError("scores") from None
    if not all(score == score for score in scores):  # noqa: PLR0124 (NaN)
        raise MisfitError("scores")
    return [-score for score in scores] if are_ranks else scores


def _is_object(item: Any) -> bool:
    return isinstance(item, Mapping)


def _ranks(scores: Sequence[float] | None, number: int) -> list[int]:
    """Return each answer's rank: 0 for the best, equal for equal scores."""
    if scores is None:
        return list(range(number))
    worths = sorted(set(scores), reverse=True)
    return [worths.index(score) for score in scores]


def _is_said(turn: Message) -> bool:
    return bool(turn["role"] != "system" or turn["content"].strip())


def _parted(conversations: Sequence[list[Message]]) -> tuple[list[Message], list[list[Message]], str]:
    """Return what all conversations begin with, how each goes on, and why they cannot be compared, if so.

    A conversation alone is parted before its last turn, which must be an answer.
    """
    first = conversations[0]
    if len(conversations) == 1:
        return (first[:-1], [first[-1:]], "") if first[-1]["role"] == "assistant" else ([], [], "no answer")
    if all(turns == first for turns in conversations):
        return [], [], "same answers"
    shared = 0
    while all(len(turns) > shared and turns[shared] == first[shared] for turns in conversations):
        shared += 1
    if not all(len(turns) > shared and turns[shared]["role"] == "assistant" for turns in conversations):
        return [], [], "apart"
    return first[:shared], [turns[shared:] for turns in conversations], ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
