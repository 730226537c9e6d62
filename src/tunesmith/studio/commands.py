"""What a person has chosen on the pages, as words of the command line: these are run, and these are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tunesmith.serve.errors import RefusedError

Word = Annotated[str, Field(max_length=1000)]

_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_]+)*")
_METHOD = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z0-9_]+)?(\([^()\n]{0,200}\))?(\+augment(\([^()\n]{0,200}\))?)?")
OWN_KEYS = frozenset({"output", "model", "data", "data.path", "task", "method", "methods"})
"""Keys that have a field of their own, so that none is given twice and none in silence."""


class Draft(BaseModel):
    """What was chosen so far."""

    model_config = ConfigDict(extra="forbid")

    data: Word = ""
    """The id of an upload, ``sample:NAME``, or what ``--data`` takes."""
    columns: dict[Annotated[str, Field(max_length=100)], Word] = Field(default_factory=dict)
    task: Word = ""
    model: Word = ""
    method: Word = ""
    settings: list[Annotated[str, Field(max_length=1200)]] = Field(default_factory=list, max_length=60)
    """Further keys, each as ``KEY=VALUE``."""
    name: Annotated[str, Field(max_length=200)] = ""
    """What the run is to be called."""
    methods: list[Word] = Field(default_factory=list, max_length=40)
    seeds: Annotated[int, Field(ge=1, le=20)] | None = None
    rates: Annotated[int, Field(ge=1, le=15)] | None = None
    budget: Annotated[str, Field(max_length=20)] = ""

    @field_validator("data", "task", "model", "method", "budget", "name", mode="after")
    @classmethod
    def _plain(cls, value: str) -> str:
        return _checked(value)

    @field_validator("methods", mode="after")
    @classmethod
    def _methods_with_options(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _METHOD.fullmatch(name):
                raise refused(f"methods: {name!r} is not a method's name with options in brackets.")
        return value

    def data_words(self) -> list[str]:
        """Return the flags that say what the rows are."""
        words = []
        for role, column in sorted(self.columns.items()):
            if not _KEY.fullmatch(f"x.{role}"):
                raise refused(f"columns: '{role}' is no role.")
            if column:
                words += [f"--data.columns.{role}", _checked(column)]
        words += ["--task", self.task] if self.task else []
        return words + self._settings("data.")

    def look(self, path: str, *, mask: bool) -> list[str]:
        """Return the words of ``tunesmith data inspect``."""
        shown = ["--show-mask", "--model", self.model] if mask and self.model else []
        return ["data", "inspect", path, *self.data_words(), *shown]

    def plan(self, path: str, within: str, memory: str) -> list[str]:
        """Return the words of ``tunesmith plan``."""
        limits = []
        for name, value in (("within", within), ("memory", memory)):
            if value:
                limits += [f"--{name}", _checked(value)]
        return ["plan", *self._common(path), *self._methods(), *self._for_any_method(), *limits]

    def train(self, path: str, output: Path) -> list[str]:
        """Return the words of ``tunesmith train``."""
        method = ["--method", self.method] if self.method else []
        return ["train", *self._common(path), *method, *self._settings(""), "--output", str(output)]

    def compare(self, path: str, output: Path) -> list[str]:
        """Return the words of ``tunesmith compare``."""
        limits = []
        for name in ("seeds", "rates", "budget"):
            if value := getattr(self, name):
                limits += [f"--{name}", str(value)]
        settings = self._for_any_method()
        return ["compare", *self._common(path), *self._methods(), *limits, *settings, "--output", str(output)]

    def _common(self, path: str) -> list[str]:
        if not self.model:
            raise refused("model: there is none. Choose one, or give the name of one on the hub, or a folder.")
        return ["--model", self.model, "--data", path, *self.data_words()]

    def _methods(self) -> list[str]:
        return ["--methods", ",".join(self.methods)] if self.methods else []

    def _for_any_method(self) -> list[str]:
        """Return the further keys but for options of a method: where several are tried, these stand in their names."""
        return [word for pair in self._pairs("") if not pair[0].startswith("--method.") for word in pair]

    def _settings(self, start: str) -> list[str]:
        return [word for pair in self._pairs(start) for word in pair]

    def _pairs(self, start: str) -> list[tuple[str, str]]:
        """Return the further keys that begin with ``start``; all but those of the data where it is empty."""
        found = []
        for line in self.settings:
            key, equals, value = line.partition("=")
            key = key.strip().removeprefix("--").replace("-", "_")
            if not equals or not _KEY.fullmatch(key):
                raise refused(f"settings: {line!r} is not a key with a value. Write one a line: train.epochs=3")
            if key in OWN_KEYS:
                raise refused(f"settings: {key} has a field of its own on this page. Change it there.")
            if key.startswith("data.") == (start == "data."):
                found.append((f"--{key}", _checked(value.strip())))
        return found


def _checked(value: str) -> str:
    """Return a text that stands for itself as a word of a command, whatever the shell or the command would make of it.

    Raises ``RefusedError`` for control characters and for what would be read as an option.
    """
    value = value.strip()
    if not value.isprintable():
        raise refused(f"{value!r} holds characters that cannot be seen.")
    if value.startswith("--"):
        raise refused(f"{value!r} begins with dashes, as options do. Give it another name.")
    return value


def refused(message: str) -> RefusedError:
    """Return the refusal of what was chosen."""
    return RefusedError(400, message, "bad_request")


def export(run: Path, to: str, form: str, output: Path, *, overwrite: bool = False) -> list[str]:
    """Return the words of ``tunesmith export``."""
    forms = ["--form", _checked(form)] if form else []
    again = ["--overwrite"] if overwrite else []
    return ["export", str(run), "--to", _checked(to), *forms, "--output", str(output), *again]


def with_json(words: Sequence[str]) -> list[str]:
    """Return the words with which a command writes for programs."""
    return [*words, "--json"]


_IMAGE = r"data:image/png;base64,$(base64 < image.png | tr -d '\n')"


def curl(task: str, port: int, columns: Sequence[str], *, sees: bool = False) -> str:
    """Return a line that asks a served run, to be tried in a terminal; one that ``sees`` is shown ``image.png``."""
    if sees:
        return _curl_with_image(task, port, columns)
    routes: dict[str, tuple[str, str]] = {
        "classify": ("classify", '{"texts": ["a joy from start to finish"]}'),
        "tag": ("tag", '{"texts": ["Ada Lovelace lived in London"]}'),
        "answer": ("answer", '{"questions": ["Where did Ada live?"], "contexts": ["Ada lived in London."]}'),
        "translate": ("translate", '{"texts": ["Good morning"]}'),
        "embed": ("embeddings", '{"input": ["where do whales sleep?"]}'),
        "chat": ("chat/completions", '{"messages": [{"role": "user", "content": "Hello"}]}'),
    }
    rows: Any = ", ".join(f'"{name}": "..."' for name in columns)
    route, body = routes.get(task, ("predict", f'{{"rows": [{{{rows}}}]}}'))
    if task == "classify" and "text_pair" in columns:
        body = '{"texts": ["a joy"], "text_pairs": ["from start to finish"]}'
    return f"curl http://127.0.0.1:{port}/v1/{route} -d '{body}'"


def _curl_with_image(task: str, port: int, columns: Sequence[str]) -> str:
    asked: Any = {"images": [_IMAGE]}
    if task == "chat":
        parts = [{"type": "image_url", "image_url": {"url": _IMAGE}}, {"type": "text", "text": "What is this?"}]
        asked = {"messages": [{"role": "user", "content": parts}]}
    elif "question" in columns:
        asked = {**asked, "texts": ["What is this?"]}
    route = "chat/completions" if task == "chat" else task
    body = json.dumps(asked).replace(json.dumps(_IMAGE), f'"{_IMAGE}"').replace('"', '\\"')
    # Images are longer than an argument may be: the body goes through a pipe.
    return f'echo "{body}" | curl http://127.0.0.1:{port}/v1/{route} -d @-'
