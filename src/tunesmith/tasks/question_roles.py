"""Which columns hold a text, a question on it, and the answers that stand in the text."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.data.columns import matching_name
from tunesmith.data.question_rows import ANSWERS, CONTEXT, QUESTION, START, UNANSWERABLE
from tunesmith.types import ColumnProfile, Role

LONG_ANSWER = 12
"""Words on average beyond which answers without places are rather written than taken from the text."""

_CONTEXT_NAMES = "context passage paragraph document article context_text story evidence 上下文 文章 段落 原文"
_QUESTION_NAMES = "question query query_text 问题 提问"
_ANSWER_NAMES = "answers answer answer_text answers_text 答案 回答"

ROLES = (
    Role(CONTEXT, tuple(_CONTEXT_NAMES.split()), ("text", "category"), purpose="the text that holds the answers"),
    Role(QUESTION, tuple(_QUESTION_NAMES.split()), ("text", "category"), purpose="what is asked"),
    Role(
        ANSWERS,
        tuple(_ANSWER_NAMES.split()),
        ("text", "category", "list", "object", "integer", "float", "boolean"),
        purpose="words of the context: a text, several, or objects of text and answer_start; empty where it has none",
    ),
    Role(
        START,
        ("answer_start", "answer_starts", "start_position", "answer_offset", "answer_begin"),
        ("integer", "list", "float"),
        required=False,
        purpose="the characters of the context at which the answers begin",
    ),
    Role(
        UNANSWERABLE,
        ("is_impossible", "unanswerable", "is_unanswerable", "no_answer"),
        ("boolean", "integer", "category"),
        required=False,
        purpose="whether the context holds no answer",
    ),
)


def fit_of(profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
    """Say how well columns by role are questions whose answers stand in a text: they are known by their names."""
    named = {role.name: profiles[role.name].name for role in ROLES if role.required}
    if not all(matching_name(named[role.name], role.names, exact=True) for role in ROLES if role.required):
        return 0.0, "only when asked for by name, or when columns are named context, question and answers"
    answers = profiles[ANSWERS]
    if answers.kind == "boolean":
        return 0.0, f"column '{answers.name}' says yes or no, which are no words of a text"
    listed = "', '".join(named.values())
    if START in profiles or answers.kind in ("object", "list"):
        return 0.98, f"columns '{listed}' are questions with answers and their places in a text"
    if answers.mean_words > LONG_ANSWER:
        return 0.3, f"column '{answers.name}' holds long answers without places, which may be written freely"
    return 0.975, f"columns '{listed}' are questions with short answers to be found in a text"
