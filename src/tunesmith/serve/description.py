"""The OpenAPI description of a server: what its routes take and give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.serve.house import House
from tunesmith.serve.requests import (
    AnswerRequest,
    ChatRequest,
    ClassifyRequest,
    CompletionRequest,
    EmbeddingRequest,
    PredictRequest,
    TextsRequest,
)
from tunesmith.version import __version__

if TYPE_CHECKING:
    from pydantic import BaseModel

REFUSALS = {
    "400": "The request cannot be used; the message says why.",
    "401": "The token is missing or wrong.",
    "404": "There is no such model.",
    "413": "The request is too large.",
    "429": "Too many requests wait; Retry-After says when to come again.",
    "503": "The server is stopping, or there was no answer in time.",
}

POSTS: dict[str, tuple[type[BaseModel], str, str]] = {
    "/v1/chat/completions": (ChatRequest, "Answer a conversation", "A completion; events of one where stream is true."),
    "/v1/completions": (CompletionRequest, "Go on with a text", "A completion; events of one where stream is true."),
    "/v1/embeddings": (EmbeddingRequest, "Give texts vectors", "A vector for each text, of length 1."),
    "/v1/classify": (
        ClassifyRequest,
        "Give texts or images labels or values",
        "A label with scores, or a value, for each.",
    ),
    "/v1/tag": (TextsRequest, "Find the entities of texts", "The entities of each text, by character."),
    "/v1/answer": (AnswerRequest, "Answer questions out of contexts", "An answer for each row, by character."),
    "/v1/translate": (TextsRequest, "Make a text of a text", "The text that was made of each."),
    "/v1/predict": (PredictRequest, "Predict rows of any task", "What 'tunesmith predict' gives for each row."),
}
GETS = {
    "/v1/models": "The runs that are served",
    "/health": "Whether the server answers",
    "/metrics": "Counts in the text format of Prometheus",
    "/openapi.json": "This description",
}


def describe(house: House) -> dict[str, Any]:
    """Return the description, with the names of the runs."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for path, (kind, summary, given) in POSTS.items():
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schema["properties"]["model"]["examples"] = list(house.hosted)
        schemas[kind.__name__] = schema
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}},
                },
                "responses": {"200": _answer(given), **{status: _refusal(words) for status, words in REFUSALS.items()}},
            }
        }
    for path, summary in GETS.items():
        kind_of = "text/plain" if path == "/metrics" else "application/json"
        answer = {"description": summary, "content": {kind_of: {}}}
        paths[path] = {"get": {"summary": summary, "responses": {"200": answer}}}
    schemas["Refusal"] = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
            }
        },
    }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "tunesmith", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if house.settings.token is not None:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _answer(words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {}, "text/event-stream": {}}}


def _refusal(words: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {"description": words, "content": content}
