"""Whether a template writes the tool calls of a conversation.

What a turn writes of its call is found by asking again: the same conversation with other names and arguments in
the call. Where they do not show, the call is left out, whatever else speaks of the tool: a question, an answer, a
result. It does not matter in which way the template writes calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.tasks.chat.sandbox import RefusedError
from tunesmith.tasks.chat.template import ChatFormat, Message

_PROBE = "zq{turn}x{number}y{argument}z"
"""What stands for a name or an argument: letters and digits, which every way of writing keeps."""


def check_calls(
    chat_format: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None, *, by_turn: bool
) -> None:
    """Refuse conversations whose calls the template leaves out: empty answers would be learned in their place.

    Args:
        chat_format: How conversations are written.
        messages: The conversation.
        tools: The tools that may be called.
        by_turn: Whether a turn is learned from the text that ends with it, where the whole text may leave out what
            earlier turns called.

    Raises ``RefusedError`` where the name of a call, or one of its arguments, is not written.
    """
    calling = [index for index, message in enumerate(messages) if message.get("tool_calls")]
    if not calling:
        return
    probed = [_probe(message, index) for index, message in enumerate(messages)]
    written = _rendered(chat_format, probed, tools)
    missing = [index for index in calling if written is None or not _shows(written, probed[index])]
    if by_turn or written is None:
        missing = [index for index in missing if not _shows_at_end(chat_format, messages, probed[index], index, tools)]
    if missing:
        raise RefusedError("it does not write tool calls")


def written_call(chat_format: ChatFormat) -> str | None:
    """Return an answer that calls a tool, as the template writes it; None where it writes no tools, or no calls."""
    name, argument, value = (_PROBE.format(turn=0, number=0, argument=place) for place in "nav")
    asked: list[Message] = [{"role": "user", "content": "Z9"}]
    properties = {argument: {"type": "string", "description": "D7"}}
    parameters = {"type": "object", "properties": properties, "required": [argument]}
    tools = [{"type": "function", "function": {"name": name, "description": "D8", "parameters": parameters}}]
    function = {"name": name, "arguments": {argument: value}}
    call = {"id": "a1b2c3d4e", "type": "function", "function": function}
    before = _rendered(chat_format, asked, tools)
    after = _rendered(chat_format, [*asked, {"role": "assistant", "content": "", "tool_calls": [call]}], tools)
    if before is None or after is None or name not in before:
        return None
    pairs = zip(before, after, strict=False)
    answer = after[next((place for place, (one, other) in enumerate(pairs) if one != other), len(before)) :]
    return answer if name in answer and value in answer else None


def _shows_at_end(
    chat_format: ChatFormat, messages: Sequence[Message], probed: Message, index: int, tools: Sequence[Any] | None
) -> bool:
    written = _rendered(chat_format, [*messages[:index], probed], tools)
    if written is not None:
        return _shows(written, probed)
    # A template that takes only calls of tools that it knows is not asked: what the turn adds must hold its call.
    before = _rendered(chat_format, messages[:index], tools) or ""
    after = _rendered(chat_format, messages[: index + 1], tools) or ""
    gained = after[len(before) :] if after.startswith(before) else ""
    calls = [call["function"] for call in messages[index]["tool_calls"]]
    return all(
        call["name"] in gained and all(_is_written(value, gained) for value in call["arguments"].values())
        for call in calls
    )


def _is_written(value: Any, text: str) -> bool:
    return str(value) in text or json.dumps(value, ensure_ascii=False) in text or json.dumps(value) in text


def _rendered(chat_format: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None) -> str | None:
    """Return the text of a conversation; None where the template refuses it."""
    try:
        return chat_format.render(messages, tools).text
    except RefusedError:
        return None


def _probe(message: Message, turn: int) -> Message:
    """Return a turn with other names and arguments in its calls."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for number, call in enumerate(message["tool_calls"]):
        arguments = {
            key: _PROBE.format(turn=turn, number=number, argument=place)
            for place, key in enumerate(call["function"]["arguments"])
        }
        function = {**call["function"], "name": _PROBE.format(turn=turn, number=number, argument="n")}
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**message, "tool_calls": calls}


def _shows(text: str, probed: Message) -> bool:
    return all(value in text for value in _values(probed))


def _values(probed: Message) -> Iterator[str]:
    for call in probed["tool_calls"]:
        yield call["function"]["name"]
        yield from call["function"]["arguments"].values()
