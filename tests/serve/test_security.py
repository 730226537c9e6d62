"""Strangers at the door of a real server: no token, foreign names, paths, too much, too slow, too many."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serve.running import Server, messages
from tunesmith.serve.settings import ServeSettings

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

TOKEN = "secret"
GETS = ("/v1/models", "/metrics", "/openapi.json")
POSTS = {
    "/v1/chat/completions": {"model": "chat", "messages": messages("a"), "max_tokens": 2},
    "/v1/completions": {"model": "chat", "prompt": "a", "max_tokens": 2},
    "/v1/embeddings": {"model": "vectors", "input": "a"},
    "/v1/classify": {"model": "labels", "texts": ["a"]},
    "/v1/tag": {"model": "tags", "texts": ["a"]},
    "/v1/answer": {"model": "answers", "questions": ["a"], "contexts": ["a b"]},
    "/v1/translate": {"model": "texts", "texts": ["a"]},
    "/v1/predict": {"model": "labels", "rows": [{"text": "a"}]},
}
ROUTES = [*((path, None) for path in GETS), *POSTS.items()]


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    from tunesmith.serve.connections import ImpatientProtocol

    usual, ImpatientProtocol.head_seconds = ImpatientProtocol.head_seconds, 0.4
    settings = ServeSettings(token=TOKEN, body_seconds=0.4, max_body_bytes=50_000)
    running = Server(list(folders.values()), settings)
    yield running
    running.stop()
    ImpatientProtocol.head_seconds = usual


def asked(server: Server, path: str, content: Any, **headers: str) -> tuple[int, str]:
    status, body = server.ask(path, content, {"Authorization": f"Bearer {TOKEN}", **headers})
    return status, body["error"]["code"] if status >= 400 else ""


@pytest.mark.parametrize(("path", "content"), ROUTES)
def test_every_route_lets_in_only_whom_it_should(server: Server, path: str, content: Any) -> None:
    assert asked(server, path, content) == (200, "")
    for given in ("", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"):
        assert asked(server, path, content, Authorization=given) == (401, "no_token"), given
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80",
        "",
        "[::1].evil",
        "localhost.evil.example",
    ):
        assert asked(server, path, content, Host=host) == (421, "foreign_host"), host
    here = f"127.0.0.1:{server.port}"
    for origin in ("https://evil.example", "null", f"http://{here}.evil.example", "http://localhost:1"):
        assert asked(server, path, content, Host=here, Origin=origin) == (403, "foreign_origin"), origin
    assert asked(server, path, content, Host=here, Origin=f"http://{here}") == (200, "")


PATHS = [
    "/../../etc/passwd",
    "/v1/../../etc/passwd",
    "/v1/models/..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "/v1/classify/../../../etc/passwd",
    "/v1/models%00",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_the_disk(server: Server, path: str) -> None:
    assert asked(server, path, None)[0] == 404


@pytest.mark.parametrize("name", ["../labels", "/etc/passwd", "labels/../labels", "labels\0", "{{ 7 * 7 }}", "", "."])
def test_no_name_of_a_model_does(server: Server, name: str) -> None:
    for path, content in POSTS.items():
        status, code = asked(server, path, {**content, "model": name})
        assert (status, code) == (404, "model_not_found")


def test_no_template_and_no_file_of_a_request_is_read(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("text\nsecret\n")
    given = {"chat_template": "{{ cycler }}", "template": "{{ 7 * 7 }}", "model": "chat", "max_tokens": 2}
    plain = {"model": "chat", "messages": messages("a"), "max_tokens": 2}
    bodies = [
        server.ask("/v1/chat/completions", one, {"Authorization": f"Bearer {TOKEN}"})[1]
        for one in (plain, {**plain, **given})
    ]
    assert bodies[0]["choices"] == bodies[1]["choices"]
    status, _ = asked(server, "/v1/predict", {"model": "labels", "rows": str(secret)})
    assert status == 400
    _, body = server.ask(
        "/v1/predict", {"model": "labels", "rows": [{"text": str(secret)}] * 2}, {"Authorization": f"Bearer {TOKEN}"}
    )
    assert len(body["results"]) == 2, "a path is a text like any other"


def opened(server: Server, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    client.sendall(sent)
    return client


def head(length: int | str, more: str = "") -> bytes:
    return (
        f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def answer_of(client: socket.socket) -> bytes:
    found = b""
    with client:
        try:
            while piece := client.recv(65536):
                found += piece
                if b"\r\n\r\n" in found:
                    break
        except ConnectionResetError:
            pass
    return found


def test_what_is_too_large_is_refused_without_being_read(server: Server) -> None:
    assert answer_of(opened(server, head(50_001))).startswith(b"HTTP/1.1 413")
    assert answer_of(opened(server, head(10**30))).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    for length in ("-5", "five"):
        assert answer_of(opened(server, head(length))).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    chunked = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    assert answer_of(opened(server, chunked + piece * 4)).startswith(b"HTTP/1.1 413")


def test_heads_that_never_end_are_cut_off(server: Server) -> None:
    client = opened(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    line = b"X-More: " + b"a" * 8000 + b"\r\n"
    sent = 0
    with client, pytest.raises(OSError):  # noqa: PT011 (reset or broken pipe, by who is quicker)
        for _ in range(2000):
            client.sendall(line)
            sent += len(line)
            time.sleep(0.001)
    assert sent < 5_000_000


def test_slow_senders_hold_no_place(server: Server) -> None:
    """Heads that come byte by byte, bodies that do, and connections that say nothing (slow loris)."""
    begun = time.monotonic()
    silent = [opened(server, b"") for _ in range(20)]
    slow = [opened(server, b"GET /health HTTP/1.1\r\nHost: local") for _ in range(20)]
    bodies = [opened(server, head(20) + b"{") for _ in range(20)]
    used = opened(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answered = http.client.HTTPResponse(used)
    answered.begin()
    assert answered.status == 200
    assert answered.read(), "to the last byte, which may come later than the head"
    used.sendall(b"GET /hea")  # the second request of a connection is waited for no longer
    assert server.ask("/health")[0] == 200
    assert all(answer_of(client) == b"" for client in [*silent, *slow, used])
    assert all(answer_of(client).startswith(b"HTTP/1.1 408") for client in bodies)
    assert time.monotonic() - begun < 8
    assert asked(server, "/v1/classify", POSTS["/v1/classify"]) == (200, "")


def test_nonsense_ends_its_own_connection_alone(server: Server) -> None:
    for sent in (b"\x00\x01\x02\r\n\r\n", b"HELO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
        answer_of(opened(server, sent))
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    body = json.dumps(POSTS["/v1/classify"]).encode()
    assert not answer_of(opened(server, head(len(body), upgrade) + body)).startswith(b"HTTP/1.1 101")
    assert server.ask("/health")[0] == 200


@pytest.mark.slow
def test_ten_times_more_than_it_takes_loses_nothing_that_was_accepted(folders: dict[str, Path]) -> None:
    settings = ServeSettings(max_waiting=6, num_slots=2)
    running = Server([folders["chat"], folders["labels"]], settings)
    chat = {"model": "chat", "messages": messages("what great 3?"), "max_tokens": 40, "temperature": 3.0, "seed": 1}
    labels = {"model": "labels", "texts": ["a great film"]}
    try:
        expected = [running.ask("/v1/chat/completions", chat)[1]["choices"], running.ask("/v1/classify", labels)[1]]
        before = psutil.Process().memory_info().rss
        statuses: Counter[int] = Counter()
        wrong: list[Any] = []
        lock = threading.Lock()

        def same(body: dict[str, Any]) -> bool:
            (one,), (other,) = body["results"], expected[1]["results"]
            return one["label"] == other["label"] and abs(one["score"] - other["score"]) < 1e-5

        def ask() -> None:
            for _ in range(4):
                found = [running.ask("/v1/chat/completions", chat), running.ask("/v1/classify", labels)]
                with lock:
                    statuses.update(status for status, _ in found)
                    (chat_status, chat_body), (label_status, label_body) = found
                    wrong.extend([chat_body] if chat_status == 200 and chat_body["choices"] != expected[0] else [])
                    wrong.extend([label_body] if label_status == 200 and not same(label_body) else [])

        threads = [threading.Thread(target=ask) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 429}, statuses
        assert statuses.total() == 480, "everybody was answered"
        assert not wrong
        assert running.house.waiting() == {"chat": 0, "labels": 0}
        assert psutil.Process().memory_info().rss - before < 200_000_000
        assert running.ask("/v1/classify", labels)[0] == 200
    finally:
        running.stop()
