"""A server of tiny runs, asked over a real socket: every route, what is refused, what is gone, what ends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.running import Server, chunks, messages
from tunesmith.run import Run, Writing
from tunesmith.serve.settings import ServeSettings

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    running = Server(list(folders.values()), ServeSettings(max_body_bytes=100_000, max_rows=50, body_seconds=1.0))
    yield running
    running.stop()


def test_models_health_and_description(server: Server, folders: dict[str, Path]) -> None:
    assert server.ask("/health")[0] == 200
    status, models = server.ask("/v1/models")
    assert status == 200
    assert {one["id"]: one["task"] for one in models["data"]}["tags"] == "token_classification"
    assert [one["id"] for one in models["data"]] == list(folders)
    _, described = server.ask("/openapi.json")
    assert described["paths"]["/v1/classify"]["post"]["requestBody"]
    assert server.ask("/v1/nothing")[0] == 404
    assert server.ask("/v1/classify")[0] == 405


@pytest.mark.parametrize("name", ["labels", "tags", "texts"])
def test_routes_of_tasks_give_what_the_run_gives(server: Server, folders: dict[str, Path], name: str) -> None:
    route = {"labels": "classify", "tags": "tag", "texts": "translate"}[name]
    texts = ["a great film", "this was boring", "a warm plot"]
    status, found = server.ask(f"/v1/{route}", {"model": name, "texts": texts})
    assert status == 200, found
    expected = Run.open(folders[name]).predict(texts, writing=Writing())
    for one, other in zip(found["results"], expected, strict=True):
        assert one.keys() == other.keys()
        assert one.get("label") == other.get("label")
        assert one.get("score") == pytest.approx(other.get("score"), abs=1e-5)


def test_pairs_answers_and_rows_of_columns(server: Server, folders: dict[str, Path]) -> None:
    status, found = server.ask("/v1/classify", {"model": "pairs", "texts": ["a film"], "text_pairs": ["a great plot"]})
    assert status == 200
    assert found["results"][0]["value"] == pytest.approx(
        Run.open(folders["pairs"]).predict(["a film"], ["a great plot"])[0]["value"], abs=1e-5
    )
    context = "this great film 3 boring"
    status, found = server.ask("/v1/answer", {"questions": ["is it great"], "contexts": [context]})
    assert status == 200
    answer = found["results"][0]
    spans = [one for one in answer["n_best"] if one["start"] is not None]
    assert spans
    assert all(one["answer"] == context[one["start"] : one["end"]] for one in spans)
    status, found = server.ask("/v1/predict", {"model": "labels", "rows": [{"text": "a great film"}]})
    assert status == 200
    assert found["results"][0]["label"] in ("good", "bad", "so-so")


def test_vectors_in_both_encodings(server: Server, folders: dict[str, Path]) -> None:
    import base64

    status, found = server.ask("/v1/embeddings", {"model": "vectors", "input": ["a great film", "a plot"]})
    assert status == 200
    expected = Run.open(folders["vectors"]).embed(["a great film", "a plot"])
    vectors = np.array([one["embedding"] for one in found["data"]], dtype=np.float32)
    assert vectors == pytest.approx(expected, abs=1e-5)
    assert found["usage"]["prompt_tokens"] > 2
    given = {"model": "vectors", "input": "a great film", "encoding_format": "base64", "dimensions": 4}
    _, found = server.ask("/v1/embeddings", given)
    cut = np.frombuffer(base64.b64decode(found["data"][0]["embedding"]), dtype=np.float32)
    assert cut.shape == (4,)
    assert float(np.linalg.norm(cut)) == pytest.approx(1, abs=1e-5)


def test_a_greedy_answer_is_that_of_the_run_alone_or_beside_others(server: Server, folders: dict[str, Path]) -> None:
    run = Run.open(folders["chat"])
    asked = [f"what great {number}?" for number in range(12)]
    expected = ["".join(run.chat(messages(text), Writing(max_new_tokens=8))) for text in asked]

    def ask(text: str) -> str:
        given = {"model": "chat", "messages": messages(text), "max_tokens": 8, "temperature": 0}
        status, found = server.ask("/v1/chat/completions", given)
        assert status == 200, found
        assert found["usage"]["completion_tokens"] <= 8
        return str(found["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, asked))
    assert [text.strip() for text in together] == [text.strip() for text in expected]
    assert ask(asked[3]) == together[3]


def test_streams_give_the_same_text_piece_by_piece(server: Server) -> None:
    given = {"model": "chat", "messages": messages("what great 3?"), "max_tokens": 8, "temperature": 1.0, "seed": 5}
    _, whole = server.ask("/v1/chat/completions", given)
    status, text = server.ask(
        "/v1/chat/completions", {**given, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert status == 200
    events = chunks(text)
    pieces = [choice["delta"].get("content", "") for one in events for choice in one["choices"]]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert events[-1]["usage"] == whole["usage"]
    ends = [choice["finish_reason"] for one in events for choice in one["choices"] if choice["finish_reason"]]
    assert ends == [whole["choices"][0]["finish_reason"]]


def test_several_answers_stops_and_probabilities(server: Server) -> None:
    given = {"model": "chat", "messages": messages("what great 3?"), "max_tokens": 6}
    more = {"temperature": 2.0, "seed": 1, "n": 3, "logprobs": True, "top_logprobs": 2}
    _, found = server.ask("/v1/chat/completions", {**given, **more})
    assert [one["index"] for one in found["choices"]] == [0, 1, 2]
    texts = {one["message"]["content"] for one in found["choices"]}
    assert len(texts) > 1
    noted = found["choices"][0]["logprobs"]["content"]
    assert all(one["logprob"] <= 0 and len(one["top_logprobs"]) == 2 for one in noted)
    longest = max(texts, key=len)
    assert len(longest) > 3
    index = [one["message"]["content"] for one in found["choices"]].index(longest)
    stop = longest[2:4]
    alone = {"temperature": 2.0, "seed": 1 + index, "stop": [stop]}
    _, cut = server.ask("/v1/chat/completions", {**given, **alone})
    assert cut["choices"][0]["message"]["content"] == longest[: longest.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"


def test_plain_texts_are_gone_on_with(server: Server) -> None:
    status, found = server.ask("/v1/completions", {"model": "chat", "prompt": ["a great", "the"], "max_tokens": 3})
    assert status == 200
    assert [one["index"] for one in found["choices"]] == [0, 1]
    assert found["usage"]["completion_tokens"] <= 6


REFUSED = [
    ("/v1/classify", b"{", 400, "no JSON"),
    ("/v1/classify", {"model": "labels"}, 400, "give texts, or images"),
    ("/v1/classify", {"model": "labels", "texts": []}, 400, "texts: list should have at least 1"),
    ("/v1/classify", {"model": "labels", "images": ["data:image/png;base64,"]}, 400, "texts alone"),
    ("/v1/tag", {"model": "tags"}, 400, "texts: field required"),
    ("/v1/classify", {"model": "nobody", "texts": ["a"]}, 404, "There are: labels"),
    ("/v1/classify", {"model": "chat", "texts": ["a"]}, 400, "was trained for"),
    ("/v1/classify", {"texts": ["a"]}, 400, "Say which model"),
    ("/v1/classify", {"model": "labels", "texts": ["a"], "text_pairs": ["b"]}, 400, "texts alone"),
    ("/v1/classify", {"model": "labels", "texts": ["a"] * 51}, 413, "51 rows"),
    ("/v1/classify", {"model": "labels", "texts": ["a" * 200_000]}, 413, "100000 bytes"),
    ("/v1/classify", b'{"model": "labels", "texts": ["\\ud800"]}', 400, "half of a character"),
    ("/v1/classify", b'{"model": "labels", "texts": ' + b"[" * 50_000, 400, "no JSON"),
    ("/v1/predict", {"model": "labels", "rows": [{"other": "a", "more": "b"}]}, 400, "text"),
    ("/v1/chat/completions", {"model": "chat", "messages": []}, 400, "messages"),
    ("/v1/chat/completions", {"model": "labels", "messages": messages("a")}, 400, "does not chat"),
    ("/v1/chat/completions", {"model": "chat", "messages": messages("a"), "temperature": -1}, 400, "temperature"),
    ("/v1/chat/completions", {"model": "chat", "messages": messages("a"), "max_tokens": 9999}, 400, "together"),
    ("/v1/chat/completions", {"model": "chat", "messages": messages("a " * 900)}, 400, "longer than"),
    ("/v1/chat/completions", {"model": "chat", "messages": messages("a"), "tools": [{}]}, 400, "tools"),
    ("/v1/embeddings", {"model": "vectors", "input": []}, 400, "no texts"),
    ("/v1/embeddings", {"model": "vectors", "input": "a", "dimensions": 4000}, 400, "dimensions"),
    ("/v1/answer", {"questions": ["a"], "contexts": ["a", "b"]}, 400, "one of each"),
]


@pytest.mark.parametrize(("path", "content", "status", "words"), REFUSED)
def test_bad_requests_are_refused_in_words(server: Server, path: str, content: Any, status: int, words: str) -> None:
    found, body = server.ask(path, content)
    assert found == status, body
    assert words in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"


def test_pages_of_others_may_not_ask(server: Server) -> None:
    assert server.ask("/health", headers={"Host": "evil.example"})[0] == 421
    assert server.ask("/health", headers={"Origin": "https://evil.example"})[0] == 403
    own = f"127.0.0.1:{server.port}"
    assert server.ask("/health", headers={"Host": own, "Origin": f"http://{own}"})[0] == 200


def test_a_body_that_never_ends_is_given_up(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert client.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_client_that_goes_away_frees_its_place(server: Server) -> None:
    hosted = server.house.hosted["chat"]
    given = {"model": "chat", "messages": messages("what great 3?"), "max_tokens": 400, "temperature": 3.0}
    body = json.dumps({**given, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(head + body)
        client.recv(200)
    until = time.monotonic() + 10
    while hosted.num_waiting and time.monotonic() < until:
        time.sleep(0.01)
    assert hosted.num_waiting == 0


def test_it_counts_what_it_did(server: Server) -> None:
    server.ask("/v1/classify", {"model": "labels", "texts": ["a"]})
    server.ask("/v1/%22}evil", {})
    _, text = server.ask("/metrics")
    assert 'tunesmith_requests_total{route="/v1/classify",status="200"}' in text
    assert "evil" not in text
    assert 'tunesmith_waiting{model="labels"} 0' in text


def test_a_token_is_asked_for(folders: dict[str, Path]) -> None:
    running = Server([folders["labels"]], ServeSettings(token="secret"))
    try:
        assert running.ask("/health")[0] == 200
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            assert running.ask(path)[0] == 401
            assert running.ask(path, headers={"Authorization": "Bearer wrong"})[0] == 401
            assert running.ask(path, headers={"Authorization": "Bearer secret"})[0] == 200
        status, found = running.ask("/v1/classify", {"texts": ["a film"]}, {"Authorization": "Bearer secret"})
        assert status == 200
        assert found["model"] == "labels"
    finally:
        running.stop()


def test_beyond_its_limits_it_says_when_to_come_again_and_at_its_end_loses_nothing(folders: dict[str, Path]) -> None:
    settings = ServeSettings(max_waiting=4, num_slots=2)
    running = Server([folders["chat"]], settings)
    given = {"messages": messages("what great 3?"), "max_tokens": 60, "temperature": 3.0, "seed": 1}
    found: list[tuple[int, Any]] = []

    def ask() -> None:
        try:
            found.append(running.ask("/v1/chat/completions", given))
        except (ConnectionError, http.client.BadStatusLine):
            found.append((503, None))  # it came when nobody listened any more

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    while running.house.waiting()["chat"] < 4:
        time.sleep(0.001)
    running.stop()
    for thread in threads:
        thread.join()
    statuses = sorted(status for status, _ in found)
    assert statuses.count(200) >= 4
    assert set(statuses) <= {200, 429, 503}
    texts = {body["choices"][0]["message"]["content"] for status, body in found if status == 200}
    assert len(texts) == 1, "whatever was accepted was answered whole"


def test_an_open_server_wants_a_token_and_a_taken_port_is_said(folders: dict[str, Path]) -> None:
    from tunesmith.cli.application import run as command

    assert command(["serve", str(folders["labels"]), "--host", "0.0.0.0"]) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert command(["serve", str(folders["labels"]), "--port", str(taken.getsockname()[1])]) == 2
    assert replace(ServeSettings(), host="::1").is_local
    assert not ServeSettings(host="10.0.0.1").is_local


def test_candidates_are_put_in_order_as_the_run_puts_them(server: Server, folders: dict[str, Path]) -> None:
    rows = [{"query": "which is great 3", "candidates": ["a great film", "a boring plot", "the film"]}]
    status, found = server.ask("/v1/predict", {"model": "ranks", "rows": rows * 2})
    assert status == 200, found
    expected = Run.open(folders["ranks"]).predict(rows)
    for one in found["results"]:
        assert one["order"] == expected[0]["order"]
        assert one["scores"] == pytest.approx(expected[0]["scores"], abs=1e-5)


def test_prompts_of_one_beginning_are_counted(server: Server) -> None:
    system = {"role": "system", "content": "this is a great film and the plot is warm and funny. " * 2}
    before = server.house.reused()["chat"]
    texts = []
    for number in range(4):
        talk = [system, *messages(f"what great {number % 2}?")]
        status, found = server.ask("/v1/chat/completions", {"model": "chat", "messages": talk, "max_tokens": 8})
        assert status == 200, found
        texts.append(found["choices"][0]["message"]["content"])
    assert texts[:2] == texts[2:]
    hits, tokens = (now - then for now, then in zip(server.house.reused()["chat"], before, strict=True))
    assert hits >= 2
    assert tokens >= 64
    _, text = server.ask("/metrics")
    assert f'tunesmith_prefix_hits_total{{model="chat"}} {server.house.reused()["chat"][0]}' in text
