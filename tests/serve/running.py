"""Tiny runs of every kind, and a real server of them that is asked over a real socket."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from run.test_contract import TASK_ROWS, WRITES_FROM_ENCODER, WRITING, write_rows
from small_runs import small_config
from tiny_writers import writer_folder
from tunesmith.run import train
from tunesmith.serve.house import House
from tunesmith.serve.settings import ServeSettings

SERVED = {
    "labels": "classification",
    "pairs": "pairs",
    "tags": "entities",
    "answers": "answers",
    "vectors": "near texts",
    "texts": WRITES_FROM_ENCODER,
    "chat": "chat",
    "ranks": "candidates",
}
"""Name of a run -> its row of the contract's tests."""

TOOLS_TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% for tool in tools %}{{ tool['function']['name'] + ' ' }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '<tool_call>\\n' + (dict(name=call['function']['name'], arguments=call['function']['arguments']) | tojson) "
    "+ '\\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML that tells of tools by their names, and writes calls as Qwen's does."""


def trained(name: str, row: str, place: Path, model: Path, **settings: Any) -> Path:
    """Train a run of two steps into ``place / name`` on a row of the contract's tests."""
    task, options, example = TASK_ROWS[row]
    data = place / f"data-{row}"
    data.mkdir(exist_ok=True)
    sections = {"task": {"name": task, **options, **settings.pop("task", {})}, **settings}
    steps = {"max_steps": 2, "evaluate_steps": 2, **sections.pop("train", {})}
    evaluation = {"num_resamples": 10, "baseline": False, "answers": 0}
    return train(
        small_config(write_rows(data, example), model, place / name, train=steps, evaluation=evaluation, **sections)
    )


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, llama_folder: Path) -> dict[str, Path]:
    """Runs of all kinds, of two steps each."""
    place = tmp_path_factory.mktemp("served")
    found = {}
    for name, row in SERVED.items():
        model = llama_folder if TASK_ROWS[row][0] in WRITING else bert_folder
        found[name] = trained(name, row, place, writer_folder(place) if row == WRITES_FROM_ENCODER else model)
    return found


class Server:
    """A running server, with what asks it."""

    def __init__(self, folders: list[Path], settings: ServeSettings) -> None:
        import uvicorn

        from tunesmith.serve.server import uvicorn_config

        self.house = House(folders, settings)
        self.server = uvicorn.Server(uvicorn_config(self.house))
        self.listening = socket.socket()
        self.listening.bind((settings.host, 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        self.listening.close()

    def ask(self, path: str, content: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
            connection.request("GET" if content is None else "POST", path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
            self.headers = dict(answer.getheaders())
            return answer.status, json.loads(text) if "json" in answer.getheader("content-type", "") else text
        finally:
            connection.close()


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def chunks(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, but for its end."""
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]", events
    return [json.loads(one) for one in events[:-1]]
