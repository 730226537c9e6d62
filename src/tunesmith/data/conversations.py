"""Which columns make conversations: the roles of the chat forms, and when columns are meant as such."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tunesmith.data.columns import matching_name
from tunesmith.types import ColumnKind, ColumnProfile, Role

_TEXT_KINDS: tuple[ColumnKind, ...] = ("text", "category")
_MESSAGES_NAMES = "messages conversations conversation chat dialog dialogue dialogs dialogues 对话 消息"
_SYSTEM_NAMES = "system system_prompt system_message 系统 系统提示"
_PROMPT_NAMES = """
    prompt instruction instructions question query problem user human input request 指令 问题 提问 输入
"""
_COMPLETION_NAMES = """
    completion output response answer answers assistant reply target solution chosen 输出 回答 回复 答案
"""
_CERTAIN_NAMES = "prompt instruction instructions completion output response 指令 回复"
"""Names that hardly anything but a chat has."""

MESSAGES = Role(
    "messages",
    tuple(_MESSAGES_NAMES.split()),
    ("object", "list", "text"),
    purpose="the turns of a conversation",
)
TOOLS = Role(
    "tools",
    ("tools", "functions", "工具"),
    ("object", "list", "text", "category"),
    required=False,
    purpose="the tools that may be called, as JSON schemas",
)
SYSTEM = Role(
    "system",
    tuple(_SYSTEM_NAMES.split()),
    _TEXT_KINDS,
    required=False,
    purpose="instructions that stand before a conversation",
)
PROMPT = Role(
    "prompt",
    tuple(_PROMPT_NAMES.split()),
    (*_TEXT_KINDS, "object", "list"),
    purpose="what is asked",
)
CONTEXT = Role(
    "context",
    ("input", "context", "输入", "上下文"),
    _TEXT_KINDS,
    required=False,
    purpose="what the question is about; follows it on a line of its own",
)
COMPLETION = Role(
    "completion",
    tuple(_COMPLETION_NAMES.split()),
    (*_TEXT_KINDS, "object", "list"),
    purpose="what is to be answered",
)
HISTORY = Role(
    "history",
    ("history", "chat_history", "历史"),
    ("object", "list", "text"),
    required=False,
    purpose="earlier questions with their answers",
)

_CONVERSATION = (MESSAGES, TOOLS, SYSTEM)
_PREFERENCES = (replace(PROMPT, names=MESSAGES.names), replace(COMPLETION, names=("chosen",)), SYSTEM, TOOLS)
"""Conversations with a better and a worse answer: the better one can be learned."""
_INSTRUCTION = (PROMPT, CONTEXT, COMPLETION, SYSTEM, HISTORY, TOOLS)

_CERTAIN = tuple(_CERTAIN_NAMES.split())
_LABEL_NAMES = frozenset({"label", "labels"})
_LOOKS_LIKE_LIST = re.compile(r"\s*[\[{]")
_LOOKS_LIKE_MESSAGES = re.compile(r"""\s*\[?\s*\{\s*["'](?:role|from|content|value|speaker)["']""")


def conversation_roles(
    profiles: Mapping[str, ColumnProfile],
    overrides: Mapping[str, str] | None = None,
    *,
    for_prediction: bool = False,
) -> tuple[Role, ...] | None:
    """Return the roles to fill when these columns hold conversations, None when they hold none.

    They do with a column of messages, or with a question and its answer: both texts, or both
    under names that only chats have. ``overrides`` (role to column) are the user's own word,
    which goes before all of that. For prediction a question is enough.
    """
    named = set(overrides or ())
    if "messages" in named:
        return _CONVERSATION
    if not named & {"prompt", "completion"} and _has_messages(profiles):
        return _PREFERENCES if _has_preferences(profiles) else _CONVERSATION
    prompt = _find(profiles, PROMPT)
    if "prompt" in named or (prompt is not None and for_prediction):
        return _roles(for_prediction)
    return _INSTRUCTION if prompt is not None and ("completion" in named or _is_chat(profiles, prompt)) else None


def _is_chat(profiles: Mapping[str, ColumnProfile], prompt: ColumnProfile) -> bool:
    """Say whether a question has an answer beside it that is one, rather than a label."""
    completion = _find({name: profile for name, profile in profiles.items() if name != prompt.name}, COMPLETION)
    if completion is None:
        return False
    if all(matching_name(column.name, _CERTAIN, exact=True) for column in (prompt, completion)):
        return True
    has_label = any(name.strip().lower() in _LABEL_NAMES for name in profiles)
    return not has_label and all(column.kind == "text" or _holds_messages(column) for column in (prompt, completion))


def _has_preferences(profiles: Mapping[str, ColumnProfile]) -> bool:
    return {"chosen", "rejected"} <= {name.strip().lower() for name in profiles}


def _roles(for_prediction: bool) -> tuple[Role, ...]:
    if not for_prediction:
        return _INSTRUCTION
    return tuple(replace(role, required=False) if role is COMPLETION else role for role in _INSTRUCTION)


def _has_messages(profiles: Mapping[str, ColumnProfile]) -> bool:
    return any(
        column.kind in MESSAGES.kinds
        and matching_name(name, MESSAGES.names, exact=True) is not None
        and _share(_LOOKS_LIKE_LIST, column) > 0.5
        for name, column in profiles.items()
    )


def _find(profiles: Mapping[str, ColumnProfile], role: Role) -> ColumnProfile | None:
    """Return the column that is called as the role usually is, by the order of its names, and can fill it."""
    found = [
        (role.names.index(name), column)
        for column in profiles.values()
        if (name := matching_name(column.name, role.names, exact=True)) is not None
        and (column.kind in _TEXT_KINDS or (column.kind in role.kinds and _holds_messages(column)))
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _holds_messages(column: ColumnProfile) -> bool:
    return _share(_LOOKS_LIKE_MESSAGES, column) > 0.5


def _share(pattern: re.Pattern[str], column: ColumnProfile) -> float:
    """Return how many of the examples begin like the pattern, as a share."""
    return sum(pattern.match(example) is not None for example in column.examples) / max(len(column.examples), 1)
