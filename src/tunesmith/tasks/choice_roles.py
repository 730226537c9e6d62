"""Which columns hold a question, the answers to choose from, and which of them is right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunesmith.data.choice_rows import CHOICES, CONTEXT, LABEL, QUESTION
from tunesmith.data.columns import matching_name
from tunesmith.types import ColumnKind, ColumnProfile, Role

_CONTEXT_NAMES = "context passage article paragraph document sent1 startphrase 文章 段落 材料"
_QUESTION_NAMES = "question query stem ctx sent2 premise goal startphrase prompt sentence 问题 题目"
_CHOICE_NAMES = "choices options endings candidates 选项"
_LABEL_NAMES = "label answer answerkey answer_key correct correct_answer gold answer_index target cop 答案"
_SPREAD = (
    re.compile(r"[A-H]"),
    re.compile(
        r"(?:ending|choice|option|answer|sol|opt?|candidate|hyp|选项)[ _-]?(?:[A-H]|[a-h]|[0-9])", re.IGNORECASE
    ),
)
"""Names of columns of one choice each."""

_TEXTS: tuple[ColumnKind, ...] = ("text", "category")
_LABELS: tuple[ColumnKind, ...] = ("category", "integer", "text", "boolean", "float")
ROLES = (
    Role(QUESTION, tuple(_QUESTION_NAMES.split()), _TEXTS, purpose="what is asked, or begun"),
    Role(CONTEXT, tuple(_CONTEXT_NAMES.split()), _TEXTS, required=False, purpose="what is asked about"),
    Role(
        CHOICES,
        tuple(_CHOICE_NAMES.split()),
        ("list", "object", "text", "category", "integer", "float"),
        purpose="the answers to choose from: a column of lists, or a column each",
    ),
    Role(LABEL, tuple(_LABEL_NAMES.split()), _LABELS, purpose="the right one: its number, letter, key or words"),
)


def spread_choices(columns: Sequence[str]) -> list[str]:
    """Return the columns that hold a choice each, such as A to D or ending0 to ending3: two at least, or none."""
    for names in _SPREAD:
        found = [column for column in columns if names.fullmatch(column.strip())]
        if len(found) >= 2:
            return found
    return []


def roles_of(profiles: Mapping[str, ColumnProfile]) -> tuple[Role, ...]:
    """Return the roles; columns of a choice each fill that of choices together, where there is none of lists."""
    names = list(profiles)
    if _are_unnamed_choices(profiles):
        columns = {QUESTION: names[:1], CHOICES: names[1:-1], LABEL: names[-1:]}
        why = "columns without names: a question, its answers, and the letter of the right one"
        return tuple(replace(role, columns=tuple(columns.get(role.name, ())), reason=why) for role in ROLES)
    if any(matching_name(name, ROLES[2].names, exact=True) for name in names):
        return ROLES
    spread = spread_choices(names)
    return tuple(replace(role, columns=tuple(spread)) if role.name == CHOICES else role for role in ROLES)


def _are_unnamed_choices(profiles: Mapping[str, ColumnProfile]) -> bool:
    """Say whether columns without names are a question, answers, and the letter of the right one, as MMLU has them."""
    names = list(profiles)
    if len(names) < 4 or names != [f"column_{number}" for number in range(1, len(names) + 1)]:
        return False
    letters = set("ABCDEFGH"[: len(names) - 2])
    last = profiles[names[-1]]
    is_letter = 2 <= last.num_distinct <= len(letters) and letters.issuperset(last.examples)
    are_answers = all(profiles[name].kind != "empty" and profiles[name].num_distinct > 2 for name in names[1:-1])
    return is_letter and are_answers and profiles[names[0]].kind == "text"


def fit_of(profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
    """Say how well columns by role are questions with choices: they are known by their names, or by letters."""
    question, choices = profiles[QUESTION], profiles[CHOICES]
    if question.name == "column_1" and choices.name.startswith("column_2, ") and profiles[LABEL].kind == "category":
        return 0.985, f"column '{profiles[LABEL].name}' holds the letters of the answers in '{choices.name}'"
    is_spread = ", " in choices.name and bool(spread_choices(choices.name.split(", ")))
    is_named = is_spread or matching_name(choices.name, ROLES[2].names, exact=True) is not None
    if not is_named or matching_name(question.name, ROLES[0].names, exact=True) is None:
        return 0.0, "only when asked for by name, or when columns are named question and choices (or A, B, …)"
    return 0.985, f"columns '{question.name}' and '{choices.name}' are questions with answers to choose from"
