"""The official client of OpenAI's API calls the server as it calls theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.running import Server
from tunesmith.serve.settings import ServeSettings

openai = pytest.importorskip("openai")

QUESTION = [{"role": "user", "content": "what great 3?"}]


@pytest.fixture(scope="module")
def client(folders: dict[str, Path]) -> Iterator[openai.OpenAI]:
    running = Server([folders["chat"], folders["vectors"]], ServeSettings(token="secret"))
    with openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="secret", max_retries=0) as found:
        yield found
    running.stop()


def test_chats_texts_and_vectors(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["chat", "vectors"]
    whole = client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=6, temperature=1.5, seed=2)
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 6
    given = {"model": "chat", "messages": QUESTION, "max_tokens": 6, "temperature": 1.5, "seed": 2, "stream": True}
    with client.chat.completions.create(**given) as events:
        pieces = [event.choices[0].delta.content or "" for event in events]
    assert "".join(pieces) == whole.choices[0].message.content
    text = client.completions.create(model="chat", prompt="a great", max_tokens=3)
    assert text.choices[0].finish_reason in ("stop", "length")
    vectors = client.embeddings.create(model="vectors", input=["a film", "a plot"])  # in base64, as the client asks
    assert [len(one.embedding) for one in vectors.data] == [len(vectors.data[0].embedding)] * 2


def test_refusals_are_the_errors_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model"):
        client.chat.completions.create(model="nobody", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="does not chat"):
        client.chat.completions.create(model="vectors", messages=QUESTION)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
