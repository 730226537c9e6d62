"""Calls of tools in written answers: each usual form, what only looks like one, and what is shown of a stream."""

from __future__ import annotations

import json

import pytest

from tunesmith.serve.tool_calls import CallWatch, read_answer

NAMES = {"weather", "stop"}
CALL = '{"name": "weather", "arguments": {"city": "Rome"}}'
WRITTEN = [
    (f"<tool_call>\n{CALL}\n</tool_call>", "", ["weather"]),
    (f"Let me see. <tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "Let me see.", ["weather"] * 2),
    (f"<tool_call>{CALL}", "", ["weather"]),
    ('{"name": "weather", "parameters": {"city": "Rome"}}', "", ["weather"]),
    (f'<|python_tag|>{CALL}; {{"name": "stop", "arguments": {{}}}}', "", ["weather", "stop"]),
    (f"[TOOL_CALLS][{CALL}]", "", ["weather"]),
    (f"[{CALL}, {CALL}]", "", ["weather"] * 2),
]
TEXTS = [
    "It is dry.",
    "",
    '{"name": "other", "arguments": {}}',
    '{"city": "Rome"}',
    "<tool_call>nothing</tool_call>",
    f"{CALL} is how one asks",
    "[1, 2]",
    "<tool",
    '{"name": "weather", "arguments": 3}',
]


@pytest.mark.parametrize(("text", "left", "names"), WRITTEN)
def test_calls_are_read(text: str, left: str, names: list[str]) -> None:
    rest, calls = read_answer(text, NAMES)
    assert rest == left
    assert [call["function"]["name"] for call in calls] == names
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Rome"}
    assert len({call["id"] for call in calls}) == len(calls)


@pytest.mark.parametrize("text", TEXTS)
def test_everything_else_is_text(text: str) -> None:
    assert read_answer(text, NAMES) == (text, [])


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_shows_the_same_and_holds_back_calls_alone(size: int) -> None:
    for text, expected in [(text, read_answer(text, NAMES)) for text in [*(one for one, *_ in WRITTEN), *TEXTS]]:
        watch = CallWatch(NAMES)
        shown = [watch.add(text[at : at + size]) for at in range(0, len(text), size)]
        assert "tool_call>" not in "".join(shown)
        rest, calls = watch.rest()
        assert [call["function"] for call in calls] == [call["function"] for call in expected[1]]
        assert ("".join(shown) + rest).strip() == expected[0].strip()
    watch = CallWatch(NAMES)
    assert watch.add("It is ") == "It is ", "text is shown as it comes"
