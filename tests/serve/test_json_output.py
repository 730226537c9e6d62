"""Answers that keep to JSON: whatever a model of random weights writes parses, and validates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.running import TOOLS_TEMPLATE, Server, chunks, messages, trained
from tunesmith.serve.settings import ServeSettings

pytest.importorskip("uvicorn")
pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": {
        "type": "object",
        "properties": {
            "kind": {"enum": ["good", "bad", "so-so"]},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "sure": {"type": "boolean"},
        },
        "required": ["kind", "stars", "sure"],
        "additionalProperties": False,
    },
    "nested": {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 3},
            "place": {"$ref": "#/$defs/place"},
        },
        "required": ["tags", "place"],
        "additionalProperties": False,
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"row": {"type": "integer", "minimum": -9, "maximum": 9}, "name": {"type": "null"}},
                "required": ["row"],
                "additionalProperties": False,
            }
        },
    },
    "either": {
        "type": "object",
        "properties": {"value": {"anyOf": [{"type": "string", "pattern": "^[a-c]{2,4}$"}, {"const": 7}]}},
        "required": ["value"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path, folders: dict[str, Path]) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("json")
    tools = trained("tools", "chat", place, llama_folder, task={"template": TOOLS_TEMPLATE})
    running = Server([folders["chat"], tools], ServeSettings())
    yield running
    running.stop()


def asked(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    given = {"model": "chat", "messages": messages("what great 3?"), "response_format": wanted, "max_tokens": 150}
    return {**given, "temperature": 2.0, "seed": 3, **more}


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_whatever_is_written_parses_and_validates(server: Server, name: str) -> None:
    status, found = server.ask("/v1/chat/completions", asked(SCHEMAS[name], n=6))
    assert status == 200, found
    texts = [choice["message"]["content"] for choice in found["choices"]]
    for choice, text in zip(found["choices"], texts, strict=True):
        assert choice["finish_reason"] == "stop", text
        jsonschema.validate(json.loads(text), SCHEMAS[name])
    assert len(set(texts)) > 1, "each has a grammar of its own"


def test_any_object_and_what_is_cut_off_says_so(server: Server) -> None:
    given = asked({}, response_format={"type": "json_object"}, max_tokens=1, temperature=0)
    _, found = server.ask("/v1/chat/completions", given)
    (choice,) = found["choices"]
    assert choice["message"]["content"].startswith("{")
    assert choice["finish_reason"] == "length"
    schema = {**SCHEMAS["flat"], "properties": {**SCHEMAS["flat"]["properties"], "stars": {"const": 5}}}
    for most in (3, 150):
        _, found = server.ask("/v1/chat/completions", asked(schema, max_tokens=most))
        assert found["choices"][0]["finish_reason"] == ("length" if most == 3 else "stop")


def test_a_stream_and_its_probabilities_are_of_the_same_answer(server: Server) -> None:
    given = asked(SCHEMAS["flat"], logprobs=True, top_logprobs=2)
    _, whole = server.ask("/v1/chat/completions", given)
    _, text = server.ask("/v1/chat/completions", {**given, "stream": True})
    pieces = [choice["delta"].get("content", "") for one in chunks(text) for choice in one["choices"]]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    noted = whole["choices"][0]["logprobs"]["content"]
    assert all(-1e6 < one["logprob"] <= 0 for one in noted), "the model's own, whatever its grammar forbade"


def test_answers_without_a_grammar_beside_one_are_what_they_are_alone(server: Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    plain = {"model": "chat", "messages": messages("what great 3?"), "max_tokens": 30, "temperature": 1.5, "seed": 7}
    _, alone = server.ask("/v1/chat/completions", plain)
    with ThreadPoolExecutor(6) as pool:
        requests = [plain, asked(SCHEMAS["flat"]), plain, asked(SCHEMAS["nested"]), plain, asked(SCHEMAS["either"])]
        found = list(pool.map(lambda one: server.ask("/v1/chat/completions", one)[1], requests))
    for one in found[::2]:
        assert one["choices"][0]["message"] == alone["choices"][0]["message"]
    for one, name in zip(found[1::2], SCHEMAS, strict=True):
        jsonschema.validate(json.loads(one["choices"][0]["message"]["content"]), SCHEMAS[name])


REFUSED = [
    ({"type": "object", "properties": {"a": {"type": "nothing"}}}, "schema cannot be used"),
    ({"type": "string", "pattern": "(unclosed"}, "schema cannot be used"),
    ({"$ref": "https://example.com/schema.json"}, "schema cannot be used"),
    ({"type": "object", "unevaluatedProperties": False, "not": {}}, "schema cannot be used"),
    ({"type": "string", "enum": ["a" * 250_000]}, "200000"),
]


@pytest.mark.parametrize(("schema", "words"), REFUSED)
def test_schemas_that_cannot_be_kept_to_are_refused_before_any_token(
    server: Server, schema: dict[str, Any], words: str
) -> None:
    for stream in (False, True):
        status, found = server.ask("/v1/chat/completions", asked(schema, stream=stream))
        assert status == 400
        assert words in found["error"]["message"]
        assert (found["error"]["param"], found["error"]["code"]) == ("response_format", "bad_schema")


@pytest.mark.parametrize("form", [{"type": "json_schema"}, {"type": "xml"}, "json"])
def test_forms_that_are_none_are_refused(server: Server, form: Any) -> None:
    status, found = server.ask("/v1/chat/completions", asked({}, response_format=form))
    assert status == 400
    assert "response_format" in found["error"]["message"]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("weather", city={"$ref": "#/$defs/city"}), tool("stop", now={"type": "boolean"})]
TOOLS[0]["function"]["parameters"]["$defs"] = {"city": {"enum": ["Rome", "Oslo"]}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_made_is_made(server: Server, choice: Any, stream: bool) -> None:
    given = {"model": "tools", "messages": messages("rain?"), "tools": TOOLS, "tool_choice": choice}
    status, found = server.ask(
        "/v1/chat/completions", {**given, "max_tokens": 100, "temperature": 2.0, "seed": 5, "stream": stream}
    )
    assert status == 200, found
    if stream:
        last = chunks(found)[-1]["choices"][0]
        assert last["finish_reason"] == "tool_calls"
        (call,) = last["delta"]["tool_calls"]
    else:
        assert found["choices"][0]["finish_reason"] == "tool_calls"
        assert found["choices"][0]["message"]["content"] is None
        (call,) = found["choices"][0]["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in TOOLS}
    jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])
    if choice != "required":
        assert call["function"]["name"] == "weather"


def test_tools_are_told_of_and_their_results_are_read(server: Server) -> None:
    hosted = server.house.hosted["tools"]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    talk = [
        *messages("rain?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "dry"},
    ]
    given = {"model": "tools", "messages": talk, "tools": TOOLS, "max_tokens": 4}
    status, found = server.ask("/v1/chat/completions", given)
    assert status == 200, found
    from tunesmith.serve.requests import ChatRequest, parse

    request = parse(ChatRequest, json.dumps(given).encode())
    ids = hosted.prompt([one.plain() for one in request.messages], request.offered).ids  # type: ignore[union-attr]
    text = hosted.run.network.tokenizer.decode(ids)
    assert "weather stop" in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in text
    assert "tool\ndry" in text
    assert found["usage"]["prompt_tokens"] == len(ids)


TOOL_REFUSALS = [
    ({"model": "chat", "tools": TOOLS}, "does not tell the model of tools"),
    ({"model": "tools", "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "no tool has"),
    ({"model": "tools", "tool_choice": "required"}, "there are no tools"),
    ({"model": "tools", "tools": [TOOLS[0], TOOLS[0]]}, "same name"),
    ({"model": "tools", "tools": [tool("a b")]}, "name"),
    ({"model": "tools", "tools": [tool("a", b={"type": "c"})], "tool_choice": "required"}, "schema cannot be used"),
    ({"model": "tools", "messages": [{"role": "user", "content": None}]}, "a message has content"),
]


@pytest.mark.parametrize(("given", "words"), TOOL_REFUSALS)
def test_tools_that_cannot_be_used_are_refused(server: Server, given: dict[str, Any], words: str) -> None:
    status, found = server.ask("/v1/chat/completions", {"messages": messages("rain?"), "max_tokens": 4, **given})
    assert status == 400, found
    assert words in found["error"]["message"]


def test_marks_that_are_tokens_of_their_own_are_written_as_these() -> None:
    from tiny import tiny_tokenizer
    from tunesmith.serve.grammars import Grammars
    from tunesmith.serve.tool_calls import CLOSE, OPEN, schema_of_call

    tokenizer = tiny_tokenizer("chat")
    tokenizer.add_tokens([OPEN, CLOSE])
    begin, end = tokenizer.convert_tokens_to_ids([OPEN, CLOSE])
    grammars = Grammars(tokenizer, frozenset({tokenizer.eos_token_id}))
    try:
        guide = grammars.of_call(schema_of_call([tool("stop")], "arguments"), f"{OPEN}\n", f"\n{CLOSE}")()
        written = f'{OPEN}\n{{"name": "stop", "arguments": {{}}}}\n{CLOSE}'
        ids = tokenizer(written)["input_ids"]
        assert (ids[0], ids[-1]) == (begin, end)
        for token in ids:
            allowed = guide.allowed()
            assert allowed is not None
            assert allowed[token], tokenizer.decode([token])
            assert token != begin or allowed.sum() == 1
            assert not guide.is_complete
            guide.take(token)
        assert guide.is_complete
    finally:
        grammars.close()
