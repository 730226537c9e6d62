"""Messages of a conversation, however they are written, in one canonical form.

A canonical message is ``{"role", "content"}`` with a role of ``ROLES`` and, only where the
source gives them, ``tool_calls`` (a list of ``{"type": "function", "function": {"name",
"arguments"}}`` with arguments as an object), ``name``, ``tool_call_id``, ``reasoning_content``
and ``train`` (whether the turn is to be learned). Where images are read too, each stands in the
content as ``IMAGE_PLACE``, and ``images`` lists them in that order, as references or, for those that
another column holds, None. Nothing here trusts the source: whatever a
cell holds, reading it returns messages or raises ``MisfitError``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tunesmith.data.message_cells import MisfitError, decode_cell

Message = dict[str, Any]
Shape = Literal["messages", "sharegpt", "pairs", "turns"]
"""How a list of messages is written: role and content; from and value; objects of a question and its answer; texts,
by turns the user's and the assistant's."""

ROLES = ("system", "user", "assistant", "tool")
CALL = "function_call"
"""A role of sharegpt: an assistant turn that is a call."""

_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text", "utterance", "message")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_PAIR_KEYS = (
    ("human", "user", "input", "question", "query", "prompt", "instruction"),
    ("assistant", "bot", "gpt", "output", "answer", "response", "completion"),
)
_ROLE_NAMES = {
    "system": "system developer system_prompt 系统",
    "user": "user human usr prompter customer client 用户 人类 客户",
    "assistant": "assistant gpt chatgpt bot chatbot model ai bard bing agent 助手 助理 客服",
    "tool": "tool function observation tool_response tool_result tool_results function_response ipython 工具",
    CALL: "function_call tool_call tool_calls function_calls",
}
_ROLE_OF_NAME = {name: role for role, names in _ROLE_NAMES.items() for name in names.split()}
_PART_KINDS = ("text", "input_text", "output_text", "tool_result", "reasoning", "thinking", "tool_call")
IMAGE_PLACE = "\ufffc"
"""The object replacement character: where an image stands in a text."""
_IMAGE_KINDS = ("image", "image_url", "input_image", "image_path")
_IMAGE_KEYS = ("image", "image_url", "path", "url", "file", "image_path")
_TRAIN_KEYS = ("train", "loss", "loss_weight", "weight", "accepted")
_MASK_KEYS = ("mask", "masked", "rejected")
_WRITTEN_CALL = re.compile(
    r"<\|?(?:tool|function)_?calls?\b|<function\b|\[TOOL_CALLS?\]|<\|python_tag\|>|\bAction\s*:|[\"'](?:name|function)[\"']\s*:",
    re.IGNORECASE,
)
"""How calls look that stand in the text of a turn. They are text and stay as they are."""
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|User|Assistant|System):")
"""What begins a turn in conversations that are written as one text."""


def holds_messages(value: Any, roles: Sequence[str] = ()) -> bool:
    """Say whether a decoded cell certainly is messages: each has a role that is known (one of ``roles``) and a content.

    An answer that is data may have keys such as ``from`` and ``text``, too: it is no message.
    """
    items = as_list(value)
    return items is not None and all(_is_message(item, roles) for item in items)


def _is_message(item: Any, roles: Sequence[str]) -> bool:
    if not isinstance(item, Mapping):
        return False
    name = _first(item, _ROLE_KEYS)
    role = _role_of(name) if isinstance(name, str) else None
    has_content = any(key in item for key in (*_CONTENT_KEYS, "tool_calls", "function_call"))
    return role is not None and has_content and (not roles or role in roles)


def is_role(name: str) -> bool:
    """Say whether somebody who speaks in conversations is called so."""
    return _role_of(name) is not None


def _role_of(name: str) -> str | None:
    return _ROLE_OF_NAME.get(re.sub(r"[\s-]+", "_", name.strip().lower()))


def split_transcript(text: str) -> list[Message] | None:
    """Return the turns of a conversation that is one text of ``Human:`` and ``Assistant:`` paragraphs; None for others.

    What is learned must be told from what is asked: the text has to begin with a speaker, and to have both.
    """
    text = text.replace("\r\n", "\n")
    marks = list(_SPEAKER.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return None
    turns = []
    for mark, stop in zip(marks, [*(following.start() for following in marks[1:]), len(text)], strict=True):
        turns.append({"role": _ROLE_OF_NAME[mark[1].lower()], "content": text[mark.end() : stop].strip()})
    return turns if {"user", "assistant"} <= {turn["role"] for turn in turns} else None


def as_list(value: Any) -> list[Any] | None:
    """Return a list of messages as one, a single message as a list of it, None for anything else."""
    if isinstance(value, Mapping):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    return value if isinstance(value, list) and value else None


def shape_of(value: Any) -> Shape | None:
    """Say how a decoded cell's messages are written; None where they are none."""
    items = as_list(value)
    if items is None:
        return None
    first = items[0]
    if isinstance(first, str):
        return "turns"
    if not isinstance(first, Mapping):
        return None
    if "from" in first:
        return "sharegpt"
    if any(key in first for key in _ROLE_KEYS):
        return "messages"
    return "pairs" if _pair(first) is not None else None


# ---- messages ------------------------------------------------------------------------------------


def read_messages(value: Any, *, with_images: bool = False) -> list[Message]:
    """Return a decoded cell's canonical messages; raise ``MisfitError`` where it holds none.

    Images among them are no misfits ``with_images`` alone.
    """
    shape = shape_of(value)
    items = as_list(value)
    if shape is None or items is None:
        raise MisfitError("no conversation")
    if shape == "turns":
        if not all(isinstance(item, str) for item in items):
            raise MisfitError("no conversation")
        return [{"role": ROLES[1 + index % 2], "content": item} for index, item in enumerate(items)]
    if shape == "pairs":
        return [message for item in items for message in _read_pair(item)]
    return [_read_message(item, with_images=with_images) for item in items]


def read_history(value: Any) -> list[Message]:
    """Return the earlier turns of a decoded cell: pairs of texts, or messages; raise ``MisfitError`` otherwise."""
    if value is None or value in ("", [], {}):
        return []
    items = as_list(value)
    if items is None:
        raise MisfitError("history")
    if all(isinstance(item, (list, tuple)) for item in items):
        return [message for item in items for message in _read_pair(item, "history")]
    if shape_of(value) == "turns" and len(items) % 2:
        raise MisfitError("history")
    return read_messages(value)


def _pair(item: Any) -> tuple[Any, Any, Any] | None:
    """Return system, question and answer of a pair, or None."""
    if isinstance(item, (list, tuple)):
        return (None, *item) if len(item) == 2 else None
    if not isinstance(item, Mapping):
        return None
    question, answer = (next((item[key] for key in keys if key in item), None) for keys in _PAIR_KEYS)
    return None if question is None and answer is None else (item.get("system"), question, answer)


def _read_pair(item: Any, what: str = "no conversation") -> list[Message]:
    pair = _pair(item)
    if pair is None or not all(text is None or isinstance(text, str) for text in pair):
        raise MisfitError(what)
    return [{"role": role, "content": text} for role, text in zip(ROLES, pair, strict=False) if text is not None]


def _read_message(item: Any, *, with_images: bool = False) -> Message:
    if not isinstance(item, Mapping):
        raise MisfitError("no conversation")
    given_role = _first(item, _ROLE_KEYS)
    if not isinstance(given_role, str):
        raise MisfitError("no conversation")
    role = _role_of(given_role)
    if role is None:
        raise MisfitError("unknown role", given_role.strip())
    given = _first(item, _CONTENT_KEYS)
    if role == CALL:
        message: Message = {"role": "assistant", "content": "", "tool_calls": read_calls(given)}
    else:
        images: list[str | None] | None = [] if with_images else None
        content, reasoning, calls = _read_content(given, role, images)
        message = {"role": role, "content": content}
        if images:
            message["images"] = images
        calls += read_calls(item["tool_calls"]) if item.get("tool_calls") else []
        calls += read_calls(item["function_call"]) if item.get("function_call") else []
        if calls and role != "assistant":
            raise MisfitError("call")
        if calls:
            message["tool_calls"] = calls
        reasoning = next((item[key] for key in _REASONING_KEYS if isinstance(item.get(key), str)), "") or reasoning
        if reasoning:
            message["reasoning_content"] = reasoning
    for key in ("name", "tool_call_id"):
        if isinstance(item.get(key), str) and item[key]:
            message[key] = item[key]
    train = _read_mark(item)
    if train is not None:
        message["train"] = train
    return message


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _read_content(given: Any, role: str, images: list[str | None] | None) -> tuple[str, str, list[dict[str, Any]]]:
    """Return the text of a turn, its reasoning, and the calls written into it; add its images, where they are read."""
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    if role == "tool" and not isinstance(given, str) and not _are_parts(given):
        # Results are often left as the objects that they are.
        given = "" if given is None else json.dumps(given, ensure_ascii=False)
    for part in given if isinstance(given, list) else [given]:
        if images is not None and is_image_part(part):
            images.append(image_of(part))
            texts.append(IMAGE_PLACE)
            continue
        kind, text = _read_part(part)
        if images is not None and isinstance(text, str):
            text = text.replace(IMAGE_PLACE, "\ufffd")  # somebody wrote it, and there is no image
        if kind == "tool_call":
            calls += read_calls(text)
        elif kind in ("reasoning", "thinking"):
            reasoning.append(text)
        else:
            texts.append(text)
    return "".join(texts), "".join(reasoning), calls


def _read_part(part: Any) -> tuple[str, Any]:
    """Return kind and text of a part of a turn's content; the content of a call is left as it is."""
    kind: Any = "text"
    text = part
    if isinstance(part, Mapping):
        kind = part.get("type", "text")
        if kind not in _PART_KINDS or not part.keys() & {kind, *_CONTENT_KEYS}:
            raise MisfitError("content")
        text = _first(part, (kind, *_CONTENT_KEYS))
    if kind == "tool_call" or isinstance(text, str):
        return kind, text
    if text is not None and not isinstance(text, (int, float)):
        raise MisfitError("content")
    return kind, "" if text is None else json.dumps(text)


def is_image_part(part: Any) -> bool:
    """Say whether a part of a turn's content is an image."""
    if not isinstance(part, Mapping):
        return False
    kind = part.get("type")
    return kind in _IMAGE_KINDS or (kind is None and ("image" in part or "image_url" in part))


def image_of(part: Any) -> str | None:
    """Return where a part, or an entry of a list of images, says that its image is; None where it does not say.

    Raises ``MisfitError`` for what is neither text nor an object with one.
    """
    found = part
    while isinstance(found, Mapping):  # {"image_url": {"url": ...}}
        found = _first(found, _IMAGE_KEYS)
    if found is not None and not isinstance(found, str):
        raise MisfitError("content")
    return found or None


def _are_parts(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(part, Mapping) and "type" in part for part in given)


def _read_mark(item: Mapping[str, Any]) -> bool | None:
    """Return whether the source wants a turn learned; ``mask`` hides it from the loss."""
    for keys, is_mask in ((_TRAIN_KEYS, False), (_MASK_KEYS, True)):
        for key in keys:
            given = item.get(key)
            if isinstance(given, str) and given.strip().lower() in ("true", "false", "0", "1"):
                given = given.strip().lower() in ("true", "1")
            if isinstance(given, (bool, int, float)):
                return bool(given) != is_mask
    return None


# ---- tools ---------------------------------------------------------------------------------------


def read_calls(value: Any) -> list[dict[str, Any]]:
    """Return tool calls in canonical form; raise ``MisfitError`` where a call has no name or no object of arguments."""
    value = decode_cell(value)
    items = value if isinstance(value, list) else [value]
    if not items:
        raise MisfitError("call")
    return [_read_call(item) for item in items]


def _read_call(item: Any) -> dict[str, Any]:
    item = decode_cell(item)
    if not isinstance(item, Mapping):
        raise MisfitError("call")
    function = item["function"] if isinstance(item.get("function"), Mapping) else item
    name = function.get("name")
    arguments = decode_cell(_first(function, ("arguments", "parameters", "args", "input")))
    if arguments is None or arguments == "":
        arguments = {}
    if not isinstance(name, str) or not name.strip() or not isinstance(arguments, Mapping):
        raise MisfitError("call")
    call: dict[str, Any] = {"type": "function", "function": {"name": name.strip(), "arguments": dict(arguments)}}
    if isinstance(item.get("id"), str) and item["id"]:
        call["id"] = item["id"]
    return call


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """Return tool schemas, each as ``{"type": "function", "function": {...}}``; None where there are none.

    Raises ``MisfitError`` for anything but schemas with a name.
    """
    value = decode_cell(value)
    if value is None or value in ("", [], {}):
        return None
    tools = []
    for given in value if isinstance(value, list) else [value]:
        item = decode_cell(given)
        function = item.get("function", item) if isinstance(item, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise MisfitError("tools")
        tools.append(dict(item) if "function" in item else {"type": "function", "function": dict(item)})
    return tools


# ---- whole conversations -------------------------------------------------------------------------


def find_flaw(messages: Sequence[Message]) -> str:
    """Return what keeps a conversation from being learned, as a misfit's name; nothing where all is well."""
    called: set[str] = set()
    has_call = is_open = False
    for message in messages:
        role, calls = message["role"], message.get("tool_calls", ())
        if role == "user":
            if is_open:
                return "no result"
            has_call = False
        if role in ("user", "assistant") and not calls and not message["content"].strip():
            return "empty turn"
        if calls:
            has_call = is_open = True
            called |= {call["id"] for call in calls if "id" in call}
        elif role == "assistant" and _WRITTEN_CALL.search(message["content"]):
            has_call = True
        if role == "tool":
            is_stray = bool(called) and message.get("tool_call_id", next(iter(called), "")) not in called
            if not has_call or is_stray:
                return "no call"
            is_open = False
    is_learned = any(message["role"] == "assistant" and message.get("train", True) for message in messages)
    return "" if is_learned else "no answer"


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as people read it."""
    lines = []
    for message in messages:
        said = [message["content"]] if message["content"] or not message.get("tool_calls") else []
        for call in message.get("tool_calls", ()):
            function = call["function"]
            said.append(f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False)})")
        lines.append(f"{message['role']}: {' '.join(said)}")
    return "\n".join(lines)
