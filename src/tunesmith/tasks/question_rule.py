"""What answers questions without learning: no answer at all, or the part of the text that shares most of their words.

Such rules were the first baselines of reading comprehension (Richardson et al. 2013; Rajpurkar et al. 2016, section
5.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tunesmith import metrics
from tunesmith.data.answer_places import Span
from tunesmith.data.encoded import Ragged
from tunesmith.data.question_rows import ANSWERS, CONTEXT, QUESTION
from tunesmith.tasks.base import Columns
from tunesmith.tasks.question_encoding import NO_ANSWER

MAX_ROWS = 500
"""Training rows by which the rule is chosen."""
CERTAIN = 1e5
"""Log-odds that no threshold outweighs."""

_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)

Rule = Callable[[str, str], Span | None]


def sentence(question: str, context: str) -> Span | None:
    """Return the sentence that has most of the question's words."""
    borders = [0, *(found.end() for found in _ENDS.finditer(context)), len(context)]
    spans = [_trimmed(context, start, end) for start, end in pairwise(borders)]
    asked = words_of(question)
    filled = [span for span in spans if span.start < span.end]
    return max(filled, key=lambda span: len(asked & words_of(context[span.start : span.end])), default=None)


def rest_of_sentence(question: str, context: str) -> Span | None:
    """Return the longest run of words of that sentence that the question does not have."""
    whole = sentence(question, context)
    if whole is None:
        return None
    asked = words_of(question)
    runs: list[list[re.Match[str]]] = [[]]
    for word in WORD.finditer(context, whole.start, whole.end):
        if word[0].lower() in asked:
            runs.append([])
        else:
            runs[-1].append(word)
    longest = max(runs, key=len)
    return Span(longest[0].start(), longest[-1].end()) if longest else whole


def nothing(question: str, context: str) -> Span | None:
    """Return that there is no answer."""
    del question, context
    return None


RULES: dict[str, Rule] = {
    "the sentence that shares most words": sentence,
    "the longest new part of the sentence that shares most words": rest_of_sentence,
}
NONE = "always no answer"


def answer_by_overlap(train: Columns, rows: Columns, *, may_be_none: bool) -> tuple[str, dict[str, Any]]:
    """Return the rule that has the best F1 on training rows, by its name, and outputs of what it says of ``rows``."""
    rules = {**RULES, NONE: nothing} if may_be_none else RULES
    some = {name: values[:MAX_ROWS] for name, values in train.items() if name in (CONTEXT, QUESTION, ANSWERS)}
    truths = [[answer["text"] for answer in answers or ()] for answers in some[ANSWERS]]
    contexts = [context or "" for context in some[CONTEXT]]

    def mean_f1(rule: Rule) -> float:
        spans = _answers(rule, some)
        given = [context[span.start : span.end] if span else "" for context, span in zip(contexts, spans, strict=True)]
        return float(
            np.mean([metrics.compare_answer(one, wanted)[1] for one, wanted in zip(given, truths, strict=True)])
        )

    name = max(rules, key=lambda name: mean_f1(rules[name]))
    return name, _outputs(_answers(rules[name], rows), [context or "" for context in rows[CONTEXT]])


def _answers(rule: Rule, rows: Columns) -> list[Span | None]:
    return [
        rule(question or "", context or "") for question, context in zip(rows[QUESTION], rows[CONTEXT], strict=True)
    ]


def _outputs(spans: Sequence[Span | None], contexts: Sequence[str]) -> dict[str, Any]:
    """Return outputs of one window of two tokens a row: no answer, and the span (or nothing)."""
    places = [[(NO_ANSWER, NO_ANSWER, 0), (0, 0, 0) if span is None else (span.start, span.end, 0)] for span in spans]
    scores = [[(CERTAIN, CERTAIN), (0, 0)] if span is None else [(0, 0), (CERTAIN, CERTAIN)] for span in spans]
    offsets = np.arange(0, 2 * len(spans) + 1, 2)
    return {
        "scores": Ragged(np.array(scores, dtype=np.float32).reshape(-1, 2), offsets),
        "places": Ragged(np.array(places, dtype=np.int32).reshape(-1, 3), offsets),
        "context": Ragged.from_rows([np.frombuffer(one.encode("utf-8"), dtype=np.uint8) for one in contexts], np.uint8),
    }


def words_of(text: str) -> set[str]:
    """Return the words of a text in lower case; each Chinese or Japanese character is one."""
    return set(WORD.findall(text.lower()))


def _trimmed(context: str, start: int, end: int) -> Span:
    text = context[start:end]
    return Span(start + len(text) - len(text.lstrip()), start + len(text.rstrip()))
