"""What clients send, checked: the fields of OpenAI's API that are answered to, and those of the routes of tasks."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunesmith.data.message_cells import MisfitError
from tunesmith.data.messages import read_calls
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
    """A part of a message that is text."""

    type: Literal["text"]
    text: Text


class ImageAddress(BaseModel):
    """Where an image is: in the address itself."""

    url: Annotated[str, Field(description="The image itself: data:image/png;base64,...")]


class ImagePart(BaseModel):
    """A part of a message that is an image."""

    type: Literal["image_url"]
    image_url: ImageAddress


class CalledFunction(BaseModel):
    """What a call names, and gives it."""

    name: Annotated[str, Field(max_length=200)]
    arguments: Text | dict[str, Any] = "{}"


class MadeCall(BaseModel):
    """A call of a tool in an earlier answer."""

    id: Annotated[str, Field(max_length=200)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Annotated[Part | ImagePart, Field(discriminator="type")]] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None
    name: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("a message has content, or is an assistant's with tool_calls")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls are an assistant's")
        if self.images and self.role != "user":
            raise ValueError("images are a user's")
        return self

    @property
    def images(self) -> dict[int, str]:
        """Addresses of the images that it shows, by the places of their parts."""
        parts = enumerate(self.content if isinstance(self.content, list) else [])
        return {place: part.image_url.url for place, part in parts if isinstance(part, ImagePart)}

    def plain(self) -> dict[str, Any]:
        """Return it as a run's template takes it. Raises ``RefusedError`` where arguments are no JSON object."""
        role = "system" if self.role == "developer" else self.role
        found: dict[str, Any] = {"role": role, "content": self._plain_content()}
        if self.tool_calls:
            try:
                found["tool_calls"] = read_calls([call.model_dump(exclude_none=True) for call in self.tool_calls])
            except MisfitError:
                message = "messages: the arguments of a tool call are no JSON object."
                raise RefusedError(400, message, "bad_messages", param="messages") from None
        given = {"tool_call_id": self.tool_call_id, "name": self.name}
        return found | {name: value for name, value in given.items() if value is not None}

    def _plain_content(self) -> str | list[dict[str, str]]:
        """Return the text; the parts, where some are images. Texts that follow each other become one, line by line."""
        parts = [Part(type="text", text=self.content)] if isinstance(self.content, str) else self.content or []
        found: list[dict[str, str]] = []
        for part in parts:
            if isinstance(part, ImagePart):
                found.append({"type": "image", "image": part.image_url.url})
            elif found and found[-1]["type"] == "text":
                found[-1]["text"] += f"\n{part.text}"
            else:
                found.append({"type": "text", "text": part.text})
        return found if self.images else "".join(part["text"] for part in found)


class Function(BaseModel):
    """What a tool is to the model."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="JSON schema of its arguments.")


class Tool(BaseModel):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    """The name of a tool."""

    name: str


class NamedTool(BaseModel):
    """The tool that the model has to call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(BaseModel):
    """The schema that an answer keeps to."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """What form an answer has: text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema: give the schema")
        return self


class ChatRequest(Written):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _tools_fit(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools: two have the same name")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: there are no tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError("tool_choice: no tool has that name")
        if self.must_call and self.schema_wanted is not None:
            raise ValueError("tool_choice: an answer is a call or of a response_format, not both")
        return self

    @property
    def images(self) -> dict[str, str]:
        """Addresses of all images, by their places in the request."""
        messages = enumerate(self.messages)
        return {
            f"messages.{number}.content.{place}": address
            for number, message in messages
            for place, address in message.images.items()
        }

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of."""
        if self.tool_choice == "none":
            return []
        return [tool.model_dump(exclude_none=True) for tool in self.tools or ()]

    @property
    def must_call(self) -> list[dict[str, Any]]:
        """The tools of which the model has to call one; empty where it may do as it likes."""
        if isinstance(self.tool_choice, NamedTool):
            return [tool for tool in self.offered if tool["function"]["name"] == self.tool_choice.function.name]
        return self.offered if self.tool_choice == "required" else []

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """The JSON schema that the answer keeps to."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        return {"type": "object"} if wanted.json_schema is None else wanted.json_schema.schema_


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
    """``POST /v1/tag``, ``/v1/translate``."""

    texts: Annotated[list[Text], Field(min_length=1)]


class ClassifyRequest(Request):
    """``POST /v1/classify``."""

    texts: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None, description="What is to be labelled, or what is asked about each of the images."
    )
    text_pairs: list[Text] | None = Field(default=None, description="Second texts, of runs that were trained on pairs.")
    images: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Of runs that look at images, each as data:image/png;base64,..."
    )

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if self.texts is None and self.images is None:
            raise ValueError("give texts, or images of runs that look at some")
        return self


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
