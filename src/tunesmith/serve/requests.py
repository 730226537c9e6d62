"""What clients send, checked: the fields of OpenAI's API that are answered to, and those of the routes of tasks."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.serve.errors import RefusedError

Text = Annotated[str, Field(max_length=1_000_000)]


class Request(BaseModel):
    """What every request has."""

    model_config = ConfigDict(extra="ignore", strict=False)

    model: str | None = Field(default=None, description="The name of a run; the only one when not given.")


class Written(Request):
    """How an answer is written."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] = 1
    stop: Text | list[Text] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None

    @property
    def stops(self) -> list[str]:
        """Texts that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def tells_usage(self) -> bool:
        """Whether a stream is to end with how many tokens there were."""
        return bool((self.stream_options or {}).get("include_usage"))


class Part(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]

    def plain(self) -> dict[str, str]:
        """Return it as a run's template takes it."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(Written):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(Written):
    """``POST /v1/completions``."""

    prompt: Text | list[Text]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool = False


class EmbeddingRequest(Request):
    """``POST /v1/embeddings``."""

    input: Text | list[Text]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Literal["query", "passage"] = "query"


class TextsRequest(Request):
    """``POST /v1/classify``, ``/v1/tag``, ``/v1/translate``."""

    texts: Annotated[list[Text], Field(min_length=1)]
    text_pairs: list[Text] | None = Field(default=None, description="Second texts, of runs that were trained on pairs.")


class AnswerRequest(Request):
    """``POST /v1/answer``."""

    questions: Annotated[list[Text], Field(min_length=1)]
    contexts: Annotated[list[Text], Field(min_length=1)]


class PredictRequest(Request):
    """``POST /v1/predict``: rows of any task, with the columns that the run was trained on."""

    rows: Annotated[list[dict[str, Any]], Field(min_length=1)]


R = TypeVar("R", bound=Request)


def parse(kind: type[R], body: bytes) -> R:
    """Return a request; ``RefusedError`` says what is wrong with it."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body is no JSON: {error}.", "no_json") from error
    _require_characters(given)
    try:
        found = kind.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg'].lower()}" for one in error.errors()[:5]
        )
        raise RefusedError(400, f"{problems}.", "bad_request") from error
    return found


def _require_characters(value: Any) -> None:
    """Refuse halves of characters, which no tokenizer reads."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise RefusedError(400, "A text holds half of a character (a lone surrogate).", "bad_text") from None
    elif isinstance(value, dict):
        for name, one in value.items():
            _require_characters(name)
            _require_characters(one)
    elif isinstance(value, list):
        for one in value:
            _require_characters(one)
