"""Columns that would be read as something else than they are: a question back, with how to write them instead."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunesmith.data.columns import is_plain_text
from tunesmith.types import ColumnProfile, InputError

_PARENTS = ("parent_id", "parent_message_id", "parent", "in_response_to", "in_response_to_tweet_id")
_SPEAKERS = ("role", "inbound")
_MESSAGES = ("text", "content", "body", "message")
_COMPARED = re.compile(
    r"(?P<stem>(?:model_)?(?:response|completion|output|generation|reply|summary|human_ref|answer_text|conversation|chat)s?)"
    r"[ _-]?(?P<side>[ab]|[01]|[12])",
    re.IGNORECASE,
)


def refuse_single_messages(profiles: Mapping[str, ColumnProfile]) -> None:
    """Raise ``InputError`` where each row is one message of a conversation, tied to another by a number."""
    names = {name.strip().lower(): name for name in profiles}
    parent = next((names[name] for name in _PARENTS if name in names), None)
    text = next((names[name] for name in _MESSAGES if name in names), None)
    if parent is None or text is None or not any(name in names for name in _SPEAKERS):
        return
    raise InputError(
        f"Each row is one message: '{parent}' says which one it answers. Read row by row, conversations would fall "
        "apart.",
        'Write a conversation a row: {"messages": [{"role": "user", "content": ...}, ...]}; of Open Assistant, take '
        f"the file of trees. To learn from single messages: data.columns.text {text}.",
    )


def refuse_compared_answers(profiles: Mapping[str, ColumnProfile]) -> None:
    """Raise ``InputError`` where two answers stand side by side, and which is better is said in a way of its own.

    Whether 0, 1 or ``model_a`` means the first one, no column says; one of the answers alone would be learned.
    """
    sides: dict[str, list[str]] = {}
    for name, column in profiles.items():
        found = _COMPARED.fullmatch(name.strip())
        if found is not None and (is_plain_text(column) or column.kind in ("object", "list")):
            sides.setdefault(found["stem"].lower(), []).append(name)
    first, second = next((names for names in sides.values() if len(names) == 2), ("", ""))
    if not first:
        return
    raise InputError(
        f"'{first}' and '{second}' are two answers to the same, and which of them is better cannot be told from their "
        "names.",
        "Write the better one of each row into a column 'chosen' and the other into 'rejected', beside the question in "
        "'prompt'. To learn one of them whatever it is worth: data.columns.prompt and "
        f"data.columns.completion {first}.",
    )
