"""Models of the hub, from a hub of the tests' own: how large they are is said, and refused, before they are fetched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from small_runs import write_reviews
from tiny import tiny_folder
from tunesmith.files import fetching
from tunesmith.files.hashing import hash_bytes
from tunesmith.models import Pretrained, hub_weights
from tunesmith.models.hub import download_model, find_weights
from tunesmith.models.hub_weights import HubWeights, weights_on_hub
from tunesmith.models.weight_files import bytes_in_memory
from tunesmith.types import HeadSettings, InputError

COMMIT = "c" * 40
HEAD = HeadSettings("AutoModelForSequenceClassification", 2)


@dataclass
class Hub:
    """One repository, and what was asked for."""

    folder: Path
    endpoint: str = ""
    name: str = "org/tiny"
    counts: int | None = None
    """Numbers that the hub says the weights have."""
    wait: float = 0.0
    """Seconds between the pieces of a file."""
    fetched: list[str] = field(default_factory=list)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def information(self) -> dict[str, Any]:
        counted = (
            {} if self.counts is None else {"safetensors": {"parameters": {"F32": self.counts}, "total": self.counts}}
        )
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files().items()]
        return {"id": self.name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings, **counted}

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": hash_bytes(content)[:40]}
            for name, content in self.files().items()
        ]


def answering(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Answers(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            start = f"/{hub.name}/resolve/{COMMIT}/"
            if path.startswith(start) and (name := path.removeprefix(start)) in hub.files():
                self._file(name, with_body=with_body)
            elif path.startswith(f"/api/models/{hub.name}/tree/"):
                self._json(hub.tree())
            elif path.startswith(f"/api/models/{hub.name}"):
                self._json(hub.information())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _json(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _file(self, name: str, *, with_body: bool) -> None:
            content = hub.files()[name]
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hash_bytes(content)}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not with_body:
                return
            hub.fetched.append(name)
            for place in range(0, len(content), 20_000):
                self.wfile.write(content[place : place + 20_000])
                self.wfile.flush()
                if name.endswith(".safetensors"):
                    time.sleep(hub.wait)

    return Answers


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a tiny model, and let the hub's library ask for it here, with a cache of its own."""
    from huggingface_hub import close_session, constants

    found = Hub(tiny_folder(tmp_path / "remote"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), answering(found))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", found.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    close_session()  # one that knows of other proxies
    yield found
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def told_of(call: Any) -> tuple[Any, list[tuple[str, bool]]]:
    told: list[tuple[str, bool]] = []

    def hear(text: str, *, lasting: bool) -> None:
        told.append((text, lasting))

    with fetching.telling(hear):
        return call(), told


def test_the_size_is_told_before_the_weights_are_fetched_and_how_far_they_are_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.02)
    hub.counts, hub.wait = 35_000, 0.1
    num_bytes = len(hub.files()["model.safetensors"])
    before: list[list[str]] = []

    def load() -> tuple[Path, str]:
        return download_model("org/tiny", None, lambda found: before.append([str(found.num_bytes), *hub.fetched]))

    (folder, commit), told = told_of(load)
    assert commit == COMMIT
    assert (folder / "model.safetensors").read_bytes() == hub.files()["model.safetensors"]
    ((said, *fetched),) = before
    assert int(said) == num_bytes
    assert "config.json" in fetched
    assert "model.safetensors" not in fetched
    (first, *others) = told
    assert first[1]
    assert "35.0k numbers" in first[0]
    assert "140 kB of memory" in first[0]
    assert "free on the disk" in first[0]
    assert others, "how far it is"
    assert all(text.startswith("fetching org/tiny (") and not lasting for text, lasting in others)
    (again, _), told = told_of(load)
    assert (again, told, len(before)) == (folder, [], 1), "what is here is not asked for again"
    assert find_weights("org/tiny") == (HubWeights("org/tiny", num_bytes, 35_000), True)


def test_weights_in_several_files_are_added_up(hub: Hub) -> None:
    whole = hub.folder / "model.safetensors"
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        shutil.copy(whole, hub.folder / name)
    num_bytes = 2 * whole.stat().st_size
    whole.unlink()
    index = {"metadata": {}, "weight_map": {"a": names[0], "b": names[1]}}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert find_weights("org/tiny") == (HubWeights("org/tiny", num_bytes, None), False)
    seen: list[HubWeights] = []
    download_model("org/tiny", None, seen.append)
    assert [one.num_bytes for one in seen] == [num_bytes]
    assert seen[0].memory_bytes == num_bytes, "at least"
    assert find_weights("org/tiny")[1]


def test_what_the_disk_or_the_memory_cannot_hold_is_not_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.counts = 10**13
    with pytest.raises(InputError, match=r"weights of org/tiny take 40 TB of memory, more than there is"):
        Pretrained(name="org/tiny").load(HEAD, (), 0)
    hub.counts = None
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(InputError, match=r"(?s)'org/tiny' take .* has 1\.0 kB free.*HF_HUB_CACHE"):
        Pretrained(name="org/tiny").load(HEAD, (), 0)
    assert "model.safetensors" not in hub.fetched
    monkeypatch.undo()


def test_a_hub_that_says_nothing_of_sizes_keeps_nobody_from_a_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "information", lambda: {"id": hub.name, "sha": COMMIT, "siblings": []})
    assert weights_on_hub("org/tiny") is None
    loaded, told = told_of(lambda: Pretrained(name="org/tiny").load(HEAD, (), 0))
    assert loaded.source == f"org/tiny@{COMMIT}"
    assert not [text for text, lasting in told if lasting]
    assert bytes_in_memory(hub.folder) > 0


def test_names_that_are_none_of_the_hub_are_not_asked_for(hub: Hub, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    shutil.copytree(hub.folder, tmp_path / "org" / "tiny")
    monkeypatch.setattr(hub_weights, "_asked", lambda *_: pytest.fail("it was asked"))
    for name in ("org/tiny", "lstm", "sample:minilm", "../org/tiny", "/etc/passwd", "a/b/c", ""):
        assert find_weights(name) == (None, False), name


def test_a_hub_that_is_not_there_is_no_failure_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    assert weights_on_hub("org/tiny") is None
    close_session()


@pytest.mark.slow
def test_the_command_line_says_the_size_first(hub: Hub, tmp_path: Path) -> None:
    """A process of its own, whose hub is named by HF_ENDPOINT."""
    hub.counts = 35_000
    data = write_reviews(tmp_path / "reviews.csv", 60)
    words = ["plan", "--model", "org/tiny", "--data", str(data), "--methods", "full", "--train.epochs", "1"]
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(tmp_path / "kept"),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Note: The weights of org/tiny are 35.0k numbers" in done.stderr
    assert "Recommended: full" in done.stdout
    assert "model.safetensors" in hub.fetched
