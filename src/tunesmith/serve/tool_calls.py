"""Calls of tools in what a model writes, in the usual forms, and as OpenAI's API gives them.

``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, any number of them beside text (Qwen, Hermes), or an
answer that is nothing but such objects, one, several or a list, with ``arguments`` or ``parameters`` (Llama, Mistral).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tunesmith.data.message_cells import MisfitError
from tunesmith.data.messages import read_calls

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_TAGGED = re.compile(rf"{OPEN}(.*?)(?:{CLOSE}|\Z)", re.DOTALL)
_BEFORE = ("<|python_tag|>", "[TOOL_CALLS]")
"""What stands before objects in some models, where it is written out."""

Call = dict[str, Any]


def read_answer(text: str, names: Collection[str]) -> tuple[str, list[Call]]:
    """Return the text of an answer and the calls in it; what calls none of the tools ``names`` is text."""
    if OPEN not in text:
        calls = _calls_alone(text, names)
        return ("", calls) if calls else (text, [])
    calls, rest, end = [], [], 0
    for match in _TAGGED.finditer(text):
        found = _calls_alone(match[1], names)
        rest.append(text[end : match.start()] if found else text[end : match.end()])
        calls += found
        end = match.end()
    left = "".join([*rest, text[end:]])
    return (left.strip() if calls else left), calls


def _calls_alone(text: str, names: Collection[str]) -> list[Call]:
    """Return the calls that a text consists of; none where it is anything else."""
    text = text.strip()
    for before in _BEFORE:
        text = text.removeprefix(before).lstrip()
    calls: list[Call] = []
    decoder = json.JSONDecoder()
    while text:
        try:
            value, end = decoder.raw_decode(text)
            found = read_calls(value) if isinstance(value, Mapping | list) else []
        except (ValueError, RecursionError, MisfitError):
            return []
        if not found or any(call["function"]["name"] not in names for call in found):
            return []
        calls += found
        text = text[end:].lstrip(" \t\r\n;,")
    return [_as_given(call) for call in calls]


def _as_given(call: Mapping[str, Any]) -> Call:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    name = {"name": function["name"], "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": name}


class CallWatch:
    """Holds back of an answer what may become a call, piece by piece; the rest is shown as it comes."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        self._has_begun = self._is_call = False

    def add(self, piece: str) -> str:
        """Return what may be shown now."""
        self._held += piece
        if self._is_call:
            return ""
        if not self._has_begun:
            start = self._held.lstrip()
            if not start or any(mark.startswith(start) for mark in (OPEN, *_BEFORE)):
                return ""
            self._has_begun = True
            if start.startswith(("{", "[", *_BEFORE)):
                self._is_call = True
                return ""
        place = self._held.find(OPEN)
        self._is_call = place >= 0
        if place < 0:
            ends = (size for size in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:size]))
            place = len(self._held) - next(ends, 0)
        shown, self._held = self._held[:place], self._held[place:]
        return shown

    def rest(self) -> tuple[str, list[Call]]:
        """Return what was held back, at the end of the answer: text, and calls."""
        held, self._held = self._held, ""
        return read_answer(held, self._names)


def schema_of_call(tools: Sequence[Mapping[str, Any]], argument_name: str) -> dict[str, Any]:
    """Return the JSON schema of a call of one of the tools, whose arguments are called ``argument_name``."""
    calls = []
    for number, tool in enumerate(tools):
        place = "" if len(tools) == 1 else f"/anyOf/{number}"
        parameters = tool["function"].get("parameters") or {"type": "object"}
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool["function"]["name"]},
                    argument_name: _moved(parameters, f"#{place}/properties/{argument_name}"),
                },
                "required": ["name", argument_name],
                "additionalProperties": False,
            }
        )
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _moved(schema: Any, place: str) -> Any:
    """Return a schema whose references to its own parts hold where it stands inside another."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved = {name: _moved(value, place) for name, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved
