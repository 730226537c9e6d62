"""Which columns make preferences: answers of which one is better than another, or of which each is good or bad."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tunesmith.data.columns import REJECTED as REJECTED_NAME
from tunesmith.data.columns import REJECTED_NAMES, is_rejected_answer, matching_name
from tunesmith.data.conversations import (
    CHOSEN_NAMES,
    COMPLETION,
    CONTEXT,
    HISTORY,
    MESSAGES,
    PROMPT,
    SYSTEM,
    TOOLS,
    conversation_roles,
    find_chosen,
    find_column,
    holds_conversations,
)
from tunesmith.data.marks import is_thumb
from tunesmith.types import ColumnKind, ColumnProfile, Role

_ANSWER_KINDS: tuple[ColumnKind, ...] = ("text", "category", "object", "list")
_ANSWERS_NAMES = """
    answers responses completions candidates outputs ranked_answers ranked_responses ranked_completions generations
    output
"""
_SCORES_NAMES = "scores ratings rewards answer_scores response_scores"
RANKS_NAMES = ("ranks", "rank", "ranking", "rankings")
"""What columns are called that number answers from the best one on, instead of scoring them."""
_THUMB_NAMES = "label labels kto_tag thumbs thumb thumbs_up thumbs_up_down"

CHOSEN = Role("chosen", CHOSEN_NAMES, _ANSWER_KINDS, purpose="the better answer")
REJECTED = Role(REJECTED_NAME, REJECTED_NAMES, _ANSWER_KINDS, purpose="the worse answer")
ANSWERS = Role(
    "answers",
    tuple(_ANSWERS_NAMES.split()),
    ("list", "object", "text"),
    purpose="several answers, the best first, or with scores",
)
SCORES = Role(
    "scores",
    (*_SCORES_NAMES.split(), *RANKS_NAMES),
    ("list", "object", "text", "category"),
    required=False,
    purpose="a score of each answer, or its rank",
)
THUMB = Role(
    "thumb",
    tuple(_THUMB_NAMES.split()),
    ("boolean", "category", "integer", "text"),
    purpose="whether an answer is a good one",
)

_ASKED = (PROMPT, CONTEXT, SYSTEM, HISTORY, TOOLS)
PAIRS = (*_ASKED, CHOSEN, REJECTED)
"""A question with a better and a worse answer."""
WHOLE_PAIRS = (CHOSEN, REJECTED, SYSTEM, TOOLS)
"""A better and a worse conversation, which begin alike."""
RANKED = (*_ASKED, ANSWERS, SCORES)
THUMBS = (*_ASKED, replace(COMPLETION, purpose="the answer that is judged"), THUMB)
WHOLE_THUMBS = (MESSAGES, SYSTEM, TOOLS, THUMB)


def preference_roles(profiles: Mapping[str, ColumnProfile], given: Collection[str] = ()) -> tuple[Role, ...] | None:
    """Return the roles to fill when these columns hold preferences, None when they hold none.

    They do with a better and a worse answer under the usual names, with a list of answers to a question, or with
    answers that each have a thumb. ``given`` are the roles that the user names columns for; they decide first.
    """
    named = set(given)
    if named & {CHOSEN.name, REJECTED.name} or (not named & {ANSWERS.name, THUMB.name} and _has_pairs(profiles)):
        return _pair_roles(profiles, named)
    if ANSWERS.name in named:
        return RANKED
    if THUMB.name in named or _find_thumb(profiles) is not None:
        has_question = {PROMPT.name, COMPLETION.name} & named or find_column(profiles, PROMPT) is not None
        whole = MESSAGES.name in named or (not has_question and find_column(profiles, MESSAGES) is not None)
        return WHOLE_THUMBS if whole else THUMBS
    return RANKED if _has_ranked_answers(profiles) else None


def _has_ranked_answers(profiles: Mapping[str, ColumnProfile]) -> bool:
    """Say whether lists of answers stand beside questions; a list of ``answers`` alone may be the places of one."""
    answers = find_column(profiles, ANSWERS)
    if answers is None or answers.kind not in ("list", "object") or find_column(profiles, PROMPT) is None:
        return False
    is_certain = matching_name(answers.name, ("answers", "output", "outputs"), exact=True) is None
    return is_certain or answers.are_graded or find_column(profiles, SCORES) is not None


def _has_pairs(profiles: Mapping[str, ColumnProfile]) -> bool:
    return find_chosen(profiles) is not None and any(is_rejected_answer(column) for column in profiles.values())


def _pair_roles(profiles: Mapping[str, ColumnProfile], named: set[str]) -> tuple[Role, ...]:
    """Return the roles of pairs: the question is in a column of its own, in one of messages, or in the answers."""
    if PROMPT.name in named or find_column(profiles, PROMPT) is not None:
        return PAIRS
    if find_column(profiles, MESSAGES) is not None:
        return (replace(PROMPT, names=MESSAGES.names), SYSTEM, TOOLS, CHOSEN, REJECTED)
    chosen = find_chosen(profiles)
    return PAIRS if chosen is not None and not holds_conversations(chosen) else WHOLE_PAIRS


def _find_thumb(profiles: Mapping[str, ColumnProfile]) -> ColumnProfile | None:
    """Return the column that says yes or no of every answer, where there is one beside what certainly is a chat."""
    names = {role.name for role in conversation_roles(profiles) or ()}
    has_answer = find_column(profiles, COMPLETION) is not None and find_column(profiles, PROMPT) is not None
    if not (MESSAGES.name in names or (HISTORY.name in names and has_answer)):
        return None
    return next(
        (
            column
            for name, column in profiles.items()
            if matching_name(name, THUMB.names, exact=True) is not None and is_thumb(column)
        ),
        None,
    )
