"""Which columns make conversations: the roles of the chat forms, and when columns are meant as such."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tunesmith.data.columns import is_id_like, is_rejected_answer, matching_name
from tunesmith.data.messages import is_role
from tunesmith.types import ColumnKind, ColumnProfile, Role

_TEXT_KINDS: tuple[ColumnKind, ...] = ("text", "category")
_MESSAGES_NAMES = """
    messages conversations conversation chat dialog dialogue dialogs dialogues turns utterances exchange 对话 消息
"""
_SYSTEM_NAMES = "system system_prompt system_message 系统 系统提示"
_PROMPT_NAMES = """
    prompt instruction instructions question questions query q problem user human input request context
    指令 问题 提问 输入 问
"""
_COMPLETION_NAMES = """
    completion output response answer answers a assistant reply target solution chosen 输出 回答 回复 答案 答
    chosen_response response_chosen chosen_answer preferred preferred_response accepted_response better_response
"""
CHOSEN_NAMES = ("chosen", "chosen_response", "response_chosen", "chosen_answer", "preferred")
"""What columns of the better ones of two answers are called."""
SOURCES = "dialogue dialog conversation transcript article document report story paper passage source src source_text"
LOOSE_SOURCES = "text content body input input_text maintext"
"""Names of texts that much else may be learned of."""
TARGETS = """
    summary summaries highlights abstract tldr target tgt target_text output_text translation
    correction corrected paraphrase simplified 摘要 译文
"""
TARGETS_OF_ANYTHING = frozenset({"summary", "highlights", "tldr", "摘要", "译文", "translation", "output_text"})
GRADE_NAMES = """
    label labels class sentiment polarity score rating stars overall intent tag tags y gold_label 标签 类别
"""
_GRADES = frozenset(GRADE_NAMES.split())
"""Names of what a text is graded or sorted by: with one of them, two texts are hardly a question and its answer."""
_SORTS = _GRADES | {"category", "topic", "genre", "section"}
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
    (*_TEXT_KINDS, "boolean", "integer", "float", "object", "list"),
    purpose="what is to be answered",
)
HISTORY = Role(
    "history",
    ("history", "chat_history", "历史"),
    ("object", "list", "text"),
    required=False,
    purpose="earlier questions with their answers",
)

IMAGES = Role(
    "images",
    ("images", "image", "img", "picture", "photo", "image_path", "file_name", "图片", "图像"),
    ("image", "list"),
    required=False,
    purpose="the images that a conversation shows, where its messages do not hold them",
)

_CONVERSATION = (MESSAGES, TOOLS, SYSTEM)
_CHOSEN = (replace(MESSAGES, names=("chosen",)), *_CONVERSATION[1:])
"""Whole conversations, of which a better and a worse one are given."""
_PREFERENCES = (replace(PROMPT, names=MESSAGES.names), replace(COMPLETION, names=("chosen",)), SYSTEM, TOOLS)
"""Conversations with a better and a worse answer: the better one can be learned."""
_INSTRUCTION = (PROMPT, CONTEXT, COMPLETION, SYSTEM, HISTORY, TOOLS)

ROLES = tuple(role.name for role in (MESSAGES, *_INSTRUCTION))
"""All roles of conversations, whichever form has them."""

_CERTAIN = tuple(_CERTAIN_NAMES.split())
_LABEL_NAMES = frozenset({"label", "labels"})
_LOOKS_LIKE_LIST = re.compile(r"""\s*(?:\[\s*["'\[{]|\{\s*["'])""")
_LOOKS_LIKE_MESSAGES = re.compile(
    r"""\s*\[?\s*\{\s*(?:["'](?:role|from|speaker)["']\s*:\s*["'](?P<role>\w+)["']|["'](?:content|value|text|utterance|message)["'])"""
)
_LOOKS_LIKE_TRANSCRIPT = re.compile(r"\s*(?:Human|User|Assistant|System):")


def conversation_roles(
    profiles: Mapping[str, ColumnProfile],
    overrides: Mapping[str, str] | None = None,
    *,
    for_prediction: bool = False,
) -> tuple[Role, ...] | None:
    """Return the roles to fill when these columns hold conversations, None when they hold none.

    They do with a column of messages, with a question and its answer (both texts, or both under
    names that only chats have), or with a text and what was made of it (an article and its
    summary). ``overrides`` (role to column) are the user's own word, which goes before all of
    that. For prediction a question is enough.
    """
    named = set(overrides or ())
    if "messages" in named:
        return _CONVERSATION
    if not named & {"prompt", "completion"}:
        if _has_messages(profiles):
            return _PREFERENCES if find_chosen(profiles) is not None else _CONVERSATION
        chosen = find_chosen(profiles)
        if chosen is not None and holds_conversations(chosen):
            # The question stands in it.
            return _CHOSEN if find_column(profiles, PROMPT) is None else _INSTRUCTION
    prompt = find_column(profiles, PROMPT)
    if "prompt" in named or (prompt is not None and for_prediction):
        return _roles(for_prediction)
    is_instruction = prompt is not None and ("completion" in named or _is_chat(profiles, prompt))
    # What is missing is then asked for: no question is learned in its place.
    is_half = find_chosen(profiles) is not None or (prompt is not None and _lacks_its_answer(profiles, prompt))
    if is_instruction or is_half:
        return _INSTRUCTION
    return None if named else _rewriting_roles(profiles)


def seeing_roles(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    """Return the roles of conversations with images: those of the chat forms, and a column of images if there is one.

    Questions whose answers could be labels, too, are conversations here: nobody asks for these roles otherwise.
    """
    found = conversation_roles(profiles, overrides)
    if found is None:
        found = _CONVERSATION if find_column(profiles, PROMPT) is None else _INSTRUCTION
    return (*found, IMAGES)


def _is_chat(profiles: Mapping[str, ColumnProfile], prompt: ColumnProfile) -> bool:
    """Say whether a question has an answer beside it that is one, rather than a label."""
    completion = find_column({name: profile for name, profile in profiles.items() if name != prompt.name}, COMPLETION)
    if completion is None:
        return False
    if all(_has_certain_name(column) for column in (prompt, completion)):
        return True
    return not _has_label(profiles) and _holds_texts(prompt) and _holds_answers(completion)


def _has_label(profiles: Mapping[str, ColumnProfile]) -> bool:
    return any(name.strip().lower() in _LABEL_NAMES for name in profiles)


def _holds_texts(column: ColumnProfile) -> bool:
    return column.kind == "text" or _holds_messages(column)


def _holds_answers(column: ColumnProfile) -> bool:
    """Say whether a column that may hold labels, too, holds answers: texts, or data that seldom repeat."""
    if column.kind in ("object", "list"):
        return column.kind == "object" or column.num_distinct > 0.5 * (column.num_rows - column.num_missing)
    return _holds_texts(column)


def _has_certain_name(column: ColumnProfile) -> bool:
    return matching_name(column.name, _CERTAIN, exact=True) is not None


def _lacks_its_answer(profiles: Mapping[str, ColumnProfile], prompt: ColumnProfile) -> bool:
    """Say whether a column is certainly a question, and one of several texts beside it may be the answer."""
    if _has_label(profiles) or not _has_certain_name(prompt):
        return False
    others = [column for name, column in profiles.items() if name != prompt.name and _holds_texts(column)]
    return any(not is_id_like(column) for column in others)


def find_chosen(profiles: Mapping[str, ColumnProfile]) -> ColumnProfile | None:
    """Return the column of the better answers, where a column of the worse ones stands beside it."""
    if not any(is_rejected_answer(column) for column in profiles.values()):
        return None
    return next(
        (
            column
            for name, column in profiles.items()
            if matching_name(name, CHOSEN_NAMES, exact=True) and column.kind in COMPLETION.kinds
        ),
        None,
    )


def _rewriting_roles(profiles: Mapping[str, ColumnProfile]) -> tuple[Role, ...] | None:
    """Return the roles of texts with what was made of them (a summary, a translation), None for other columns."""
    names = {name.strip().lower() for name in profiles}
    for sources, graded in ((SOURCES, _GRADES), (LOOSE_SOURCES, _SORTS)):
        if names & graded:
            continue
        source = _text_named(profiles, sources)
        target = _text_named(profiles, TARGETS, but=source)
        if source is None or target is None or target.mean_length >= 2 * source.mean_length:
            continue
        if sources is LOOSE_SOURCES and matching_name(target.name, tuple(TARGETS_OF_ANYTHING), exact=True) is None:
            continue
        return (
            replace(PROMPT, names=(source.name.strip().lower(),)),
            replace(COMPLETION, names=(target.name.strip().lower(),)),
            SYSTEM,
        )
    return None


def _text_named(
    profiles: Mapping[str, ColumnProfile], names: str, but: ColumnProfile | None = None
) -> ColumnProfile | None:
    """Return the text that is called by one of some names, by their order."""
    wanted = tuple(names.split())
    found = [
        (wanted.index(name), column)
        for column in profiles.values()
        if column.kind == "text" and column is not but and not is_id_like(column)
        and (name := matching_name(column.name, wanted, exact=True)) is not None
    ]  # fmt: skip
    return min(found, key=lambda pair: pair[0])[1] if found else None


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


def find_column(profiles: Mapping[str, ColumnProfile], role: Role) -> ColumnProfile | None:
    """Return the column that is called as the role usually is, by the order of its names, and can fill it."""
    found = [
        (role.names.index(name), column)
        for column in profiles.values()
        if (name := matching_name(column.name, role.names, exact=True)) is not None and column.kind in role.kinds
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def holds_conversations(column: ColumnProfile) -> bool:
    """Say whether most examples of a column begin as whole conversations do: lists of messages, or transcripts."""
    return _holds_messages(column) or _share(_LOOKS_LIKE_TRANSCRIPT, column) > 0.5


def _holds_messages(column: ColumnProfile) -> bool:
    """Say whether the examples of a column begin as messages do, the name of whose role, where it is seen, is known."""
    if column.kind not in ("object", "list", "text"):
        return False
    matches = [_LOOKS_LIKE_MESSAGES.match(example) for example in column.examples]
    likely = [match for match in matches if match and (match["role"] is None or is_role(match["role"]))]
    return len(likely) > 0.5 * max(len(matches), 1)


def _share(pattern: re.Pattern[str], column: ColumnProfile) -> float:
    """Return how many of the examples begin like the pattern, as a share."""
    return sum(pattern.match(example) is not None for example in column.examples) / max(len(column.examples), 1)
