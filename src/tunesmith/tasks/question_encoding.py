"""Questions with their contexts to windows of tokens, and the places of tokens and answers.

Windows are those of ``transformers``: the question, then as much of the context as there is room for, each window
sharing some tokens with the one before it. Shapes: N rows, L tokens of a window, U of all windows, A answers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.data.question_rows import ANSWERS, CONTEXT, QUESTION
from tunesmith.tasks.encoding import BATCH_ROWS, encode_batch, lengths_of
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.tasks.base import Columns

IntArray = npt.NDArray[np.int64]

OUTSIDE, NO_ANSWER = -1, -2
"""In the place of a beginning: of tokens that are no part of the context, and of those that stand for no answer."""
CUT_ANSWERS = "have an answer that no window holds whole: raise task.stride, or model.max_length."


@dataclass(frozen=True, slots=True)
class Window:
    """A question with a part of its context."""

    ids: list[int]
    types: list[int]
    places: IntArray
    """[L, 3]: of each token: characters of the context, up to the end, and the number of the window."""


def encode_questions(columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> Encoded:
    """Tokenise rows to one or several windows each, which share ``stride`` tokens: at most half of the context's room.

    Inputs: ``input_ids`` and, where the tokenizer makes them, ``token_type_ids``. Every token is read. Beside them:
    ``places`` int32 [U, 3] and ``context``, UTF-8. Targets, given answers: ``start`` and ``end`` uint8 [U], 1 at the
    tokens that are right, and those of ``answer_spans``. A question that leaves no room is cut.

    Raises ``InputError`` for a tokenizer that is not a fast one: only those tell the characters of a token.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(
            "The model's tokenizer is not a fast one, which alone can tell the characters of a token.",
            "Choose a model whose folder holds a tokenizer.json.",
        )
    contexts = [context or "" for context in columns[CONTEXT]]
    questions = [question or "" for question in columns[QUESTION]]
    rows: list[list[Window]] = []
    num_cut = 0
    for first in range(0, len(contexts), BATCH_ROWS):
        batch = slice(first, first + BATCH_ROWS)
        pairs = list(zip(questions[batch], contexts[batch], strict=True))
        for (_, context), found in zip(pairs, encode_batch(tokenizer, pairs, aligned=True), strict=True):
            windows, was_cut = _windows(found, context, tokenizer, max_length, stride)
            rows.append(windows)
            num_cut += was_cut
    targets, num_lost = ({}, 0) if ANSWERS not in columns else _targets(rows, columns)
    remarks = {CUT_ANSWERS: num_lost} if num_lost else {}
    encoded = _assembled(rows, contexts, targets, makes_types="token_type_ids" in tokenizer.model_input_names)
    return replace(encoded, num_truncated=num_cut, remarks=remarks)


def _assembled(
    rows: Sequence[Sequence[Window]],
    contexts: Sequence[str],
    targets: Mapping[str, Array | Ragged],
    *,
    makes_types: bool,
) -> Encoded:
    windows = [window for row in rows for window in row]
    lengths = lengths_of([window.ids for window in windows])
    offsets = _offsets(lengths)
    inputs: dict[str, Ragged | Array] = {"input_ids": Ragged.from_rows([window.ids for window in windows])}
    if makes_types and any(any(window.types) for window in windows):
        inputs["token_type_ids"] = Ragged.from_rows([window.types for window in windows])
    firsts = _offsets(lengths_of(rows))
    texts = [np.frombuffer(context.encode("utf-8"), dtype=np.uint8) for context in contexts]
    places_U3 = np.concatenate([np.zeros((0, 3)), *(window.places for window in windows)]).astype(np.int32)
    return Encoded(
        inputs,
        {name: Ragged(one, offsets) if name in ("start", "end") else one for name, one in targets.items()},  # type: ignore[arg-type]
        reads=Ragged(np.concatenate([np.zeros(0), *map(np.arange, lengths)]).astype(np.int32), offsets),
        rows=firsts,
        keeps_rows=True,
        beside={"places": Ragged(places_U3, offsets[firsts]), "context": Ragged.from_rows(texts, np.uint8)},
    )


def _offsets(lengths: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


# ---- windows -------------------------------------------------------------------------------------


def _windows(
    found: Any, context: str, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int
) -> tuple[list[Window], bool]:
    """Return the windows of one row, and whether its question was cut; a row never comes out without a token."""
    of_text = found.sequence_ids
    inside = [place for place, text in enumerate(of_text) if text == 1]
    first, last = (inside[0], inside[-1] + 1) if inside else (_end_of_question(of_text), _end_of_question(of_text))
    before, after = list(range(first)), list(range(last, len(of_text)))
    asked = [place for place in before if of_text[place] == 0]
    allowed = max(max_length - (len(before) - len(asked)) - len(after) - max_length // 2, 1)
    cut = set(asked[allowed:])
    before = [place for place in before if place not in cut]
    room = max(max_length - len(before) - len(after), 1)
    step = max(room - min(stride, room // 2), 1)
    places_L3 = np.full((len(of_text), 3), OUTSIDE, dtype=np.int64)
    for place in inside:
        places_L3[place, :2] = _visible(context, *found.offsets[place])
    windows: list[Window] = []
    start = first
    while True:
        kept = [*before, *range(start, min(start + room, last)), *after]
        ids = [found.ids[place] for place in kept]
        places = places_L3[kept]
        places[:, 2] = len(windows)
        if kept:
            places[_no_answer_place(ids, tokenizer, len(after))] = (NO_ANSWER, NO_ANSWER, len(windows))
        windows.append(Window(ids, [found.type_ids[place] for place in kept], places))
        if start + room >= last:
            return windows, bool(cut)
        start += step


def _end_of_question(of_text: Sequence[int | None]) -> int:
    """Return where a context without tokens would stand."""
    return max((place + 1 for place, text in enumerate(of_text) if text == 0), default=len(of_text))


def _visible(context: str, start: int, end: int) -> tuple[int, int]:
    """Return the characters of a token but for white space, which some tokenizers count to it; none of white space."""
    while start < end and context[start].isspace():
        start += 1
    return (start, end) if start < end else (OUTSIDE, OUTSIDE)


def _no_answer_place(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, num_after: int) -> int:
    """Return which token stands for no answer: [CLS] or, where there is none, what ends the text."""
    cls = tokenizer.cls_token_id
    if cls is not None and cls in ids:
        return ids.index(cls)
    return len(ids) - 1 if num_after else 0


# ---- answers -------------------------------------------------------------------------------------


def answer_spans(columns: Columns) -> npt.NDArray[np.int32]:
    """Return [N, A, 2]: the characters of each row's answers, up to the end; ``OUTSIDE`` where there are fewer."""
    spans_N = [
        [(answer["start"], answer["start"] + len(answer["text"])) for answer in answers or ()]
        for answers in columns[ANSWERS]
    ]
    most = max(map(len, spans_N), default=0)
    found = np.full((len(spans_N), max(most, 1), 2), OUTSIDE, dtype=np.int32)
    for row, spans in enumerate(spans_N):
        if spans:
            found[row, : len(spans)] = spans
    return found


def _targets(rows: Sequence[Sequence[Window]], columns: Columns) -> tuple[dict[str, Array | Ragged], int]:
    """Return the targets, and how many rows have an answer that no window holds whole."""
    spans_NA2 = answer_spans(columns)
    marked, num_lost = [], 0
    for windows, spans_A2 in zip(rows, spans_NA2, strict=True):
        marks, was_lost = _marks(windows, [(int(s), int(e)) for s, e in spans_A2 if s != OUTSIDE])
        marked += marks
        num_lost += was_lost
    marks_U2 = np.concatenate([np.zeros((0, 2), dtype=np.uint8), *marked])
    return {"spans": spans_NA2, "start": marks_U2[:, 0].copy(), "end": marks_U2[:, 1].copy()}, num_lost


def _marks(windows: Sequence[Window], spans: Sequence[tuple[int, int]]) -> tuple[list[npt.NDArray[np.uint8]], bool]:
    """Return [L, 2] of each window: at which tokens an answer begins and ends; where there is none, that of no answer.

    An answer counts in the windows that hold it whole. One that none does counts where its ends are, so that no row is
    without an answer to learn.
    """
    marks = [np.zeros((len(window.ids), 2), dtype=np.uint8) for window in windows]
    was_lost = False
    for start, end in spans:
        ends = [_ends_of(window.places, start, end) for window in windows]
        is_whole = [first is not None and last is not None for first, last in ends]
        was_lost |= not any(is_whole)
        for marks_L2, (first, last), whole in zip(marks, ends, is_whole, strict=True):
            if first is not None and (whole or not any(is_whole)):
                marks_L2[first, 0] = 1
            if last is not None and (whole or not any(is_whole)):
                marks_L2[last, 1] = 1
    has_both = all(any(marks_L2[:, side].any() for marks_L2 in marks) for side in (0, 1))
    if not has_both:  # there is none, or the tokenizer leaves nothing of it
        was_lost |= bool(spans)
        for window, marks_L2 in zip(windows, marks, strict=True):
            marks_L2[:] = window.places[:, :1] == NO_ANSWER
    return marks, was_lost


def _ends_of(places_L3: IntArray, start: int, end: int) -> tuple[int | None, int | None]:
    """Return the first and the last token of characters ``start`` to ``end``; None where a window does not reach it."""
    tokens = np.flatnonzero(places_L3[:, 0] >= 0)
    if not len(tokens):
        return None, None
    begins, ends = places_L3[tokens, 0], places_L3[tokens, 1]
    first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(begins, end, side="left") - 1
    # An answer that begins before the window's first token does not begin in it; the same for its end.
    begins_here = first < len(tokens) and (first > 0 or begins[0] <= start)
    ends_here = last >= 0 and (last < len(tokens) - 1 or ends[-1] >= end)
    return (int(tokens[first]) if begins_here else None), (int(tokens[last]) if ends_here else None)
