"""Runs that look at images, asked over a real socket: by the image itself, and by nothing that only names one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from PIL import Image

from images import draw, picture, seeing_folder
from seeing import shape_image, vision_folder
from serve.running import Server, chunks, trained
from tunesmith.engine.generate import stream
from tunesmith.run import Run, Writing
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.house import House
from tunesmith.serve.images import require_images
from tunesmith.serve.predicting import PredictingRun
from tunesmith.serve.settings import ServeSettings
from tunesmith.serve.writing import WritingRun
from tunesmith.studio import commands
from tunesmith.tasks.image_store import vision_reader_of

SERVED = {"kinds": "images", "asked": "questions about images", "seeing": "talks about images"}
"""Name of a run -> its row of the contract's tests."""
LIMITS = ServeSettings(max_body_bytes=10_000, max_image_body_bytes=400_000, max_images=6, max_pixels=40_000)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each task that sees, of two steps."""
    place = tmp_path_factory.mktemp("seeing")
    models = (seeing_folder(place), seeing_folder(place, with_texts=True), vision_folder(place))
    return {name: trained(name, row, place, model) for (name, row), model in zip(SERVED.items(), models, strict=True)}


@pytest.fixture(scope="module")
def server(runs: dict[str, Path], folders: dict[str, Path]) -> Iterator[Server]:
    running = Server([*runs.values(), folders["chat"], folders["labels"]], LIMITS)
    yield running
    running.stop()


def written_out(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def shown(address: str, text: str = "Which colour?") -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": address, "detail": "low"}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def huge(width: int, height: int) -> str:
    """Return a PNG of a few hundred bytes that says it has so many pixels, and has the rows for the first of them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + content).decode()


def test_images_get_the_labels_that_the_run_gives_their_files(
    server: Server, runs: dict[str, Path], tmp_path: Path
) -> None:
    numbers = (300, 301, 302)
    files = [str(draw(tmp_path / f"{number}.png", number)) for number in numbers]
    expected = Run.open(runs["kinds"]).predict(files)
    given = [written_out(picture(number)) for number in numbers]
    status, found = server.ask("/v1/classify", {"model": "kinds", "images": given})
    assert status == 200, found
    for one, other in zip(found["results"], expected, strict=True):
        assert one.keys() == other.keys() - {"image"}
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert server.ask("/v1/classify", {"model": "kinds", "images": [written_out(picture(1), "JPEG")]})[0] == 200


def test_questions_about_images_are_answered(server: Server, runs: dict[str, Path], tmp_path: Path) -> None:
    file, question = str(draw(tmp_path / "301.png", 301)), "where is it bright?"
    (expected,) = Run.open(runs["asked"]).predict([(file, question)])
    given = {"model": "asked", "images": [written_out(picture(301))], "texts": [question]}
    status, found = server.ask("/v1/classify", given)
    assert status == 200, found
    assert found["results"][0]["label"] == expected["label"]
    status, found = server.ask("/v1/classify", {**given, "texts": None})
    assert (status, found["error"]["code"]) == (400, "bad_request")
    assert "images and as many texts" in found["error"]["message"]


def test_a_conversation_that_shows_an_image_is_answered_as_by_the_run(
    server: Server, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[bytes] = set()

    def watched(model: Any, prompt: Any, sampling: Any, *, keep: bool, beside: Mapping[str, Any]) -> Iterator[int]:
        seen.add(beside["pixel_values"][np.array([0])].tobytes())
        return stream(model, prompt, sampling, keep=keep, beside=beside)

    monkeypatch.setattr("tunesmith.engine.live.stream", watched)
    run, images = Run.open(runs["seeing"]), {colour: shape_image(colour) for colour in ("red", "blue")}
    expected = {}
    for colour, image in images.items():
        image.save(tmp_path / f"{colour}.png")
        parts = [{"type": "image", "image": str(tmp_path / f"{colour}.png")}, {"type": "text", "text": "Which colour?"}]
        messages = [{"role": "user", "content": parts}]
        expected[colour] = "".join(run.chat(messages, Writing(max_new_tokens=8)))
    wanted = {"model": "seeing", "max_tokens": 8}

    def answer(colour: str) -> str:
        given = {**wanted, "messages": shown(written_out(images[colour]))}
        status, found = server.ask("/v1/chat/completions", given)
        assert status == 200, found
        return str(found["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, ["red", "blue"] * 2)) == [expected["red"], expected["blue"]] * 2
    reader = vision_reader_of(run.network.tokenizer)
    pixels = [reader.see(np.asarray(image)).arrays["pixel_values"] for image in images.values()]
    assert seen == {one.tobytes() for one in pixels}
    monkeypatch.undo()
    status, text = server.ask(
        "/v1/chat/completions", {**wanted, "messages": shown(written_out(images["red"])), "stream": True}
    )
    assert status == 200
    pieces = [choice["delta"].get("content", "") for one in chunks(text) for choice in one["choices"]]
    assert "".join(pieces) == expected["red"]
    plain = [{"role": "user", "content": "No image <image> at all?"}]
    status, found = server.ask("/v1/chat/completions", {**wanted, "messages": plain})
    assert status == 200, found


def test_what_only_names_an_image_is_never_opened(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    path = draw(tmp_path / "secret.png", 300)
    opened: list[str] = []
    monkeypatch.setattr("tunesmith.data.image_files.ImageBytes._read", lambda _, reference: opened.append(reference))
    good = written_out(picture(1))
    named = [
        str(path),
        f"file://{path}",
        f" {path}",
        "../secret.png",
        "https://example.org/a.png",
        "http://127.0.0.1:1/a.png",
        "cache:rows/a/images.bin!0+10",
        f"outside:{path}",
        f"{tmp_path}/a.zip!b.png",
        "data:text/plain;base64,AAAA",
        "data:image/svg+xml,<svg/>",
        f"data:image/png;charset={path};base64,AAAA",
        "",
    ]
    for name in named:
        for body in (
            {"model": "kinds", "images": [good, name]},
            {"model": "asked", "images": [good, name], "texts": ["a", "b"]},
        ):
            status, found = server.ask("/v1/classify", body)
            assert (status, found["error"]["code"], found["error"]["param"]) == (400, "bad_image", "images"), name
            assert "images.1" in found["error"]["message"]
        status, found = server.ask("/v1/chat/completions", {"model": "seeing", "messages": shown(name)})
        assert (status, found["error"]["code"], found["error"]["param"]) == (400, "bad_image", "messages"), name
    for body in (
        {"model": "kinds", "rows": [{"image": str(path)}]},
        {"model": "asked", "rows": [{"image": str(path), "question": "a"}]},
        {"model": "seeing", "rows": [{"messages": shown(str(path))}]},
    ):
        assert server.ask("/v1/predict", body)[0] == 400
    sneaking: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image", "image": str(path)}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "image": str(path)}]},
        {"role": "user", "content": "\ufffc <image>", "images": [{"image": str(path), "content": "0"}]},
        {"role": "assistant", "content": shown(good)[0]["content"]},
    ]
    statuses = [
        server.ask("/v1/chat/completions", {"model": "seeing", "messages": [one], "max_tokens": 2})[0]
        for one in sneaking
    ]
    assert statuses == [400, 200, 200, 400], "what is no field of the API is not read"
    assert opened == []


REFUSED = [
    (huge(30_000, 30_000), 413, "bad_image", "pixels"),  # 2.7 GB, if it were unpacked
    (huge(300, 200), 413, "image_too_large", "pixels"),
    (huge(100, 100), 400, "bad_image", "damaged"),
    ("data:image/png;base64,AAAA", 400, "bad_image", "none of PNG"),
    ("data:image/png;base64,%%%", 400, "bad_image", "base64"),
    (written_out(picture(1))[:-40], 400, "bad_image", "damaged"),
    (written_out(picture(1), "TIFF"), 400, "bad_image", "TIFF is not read"),
]


@pytest.mark.parametrize(("address", "status", "code", "words"), REFUSED, ids=range(len(REFUSED)))
def test_images_that_cannot_be_used_are_refused_in_words(
    server: Server, address: str, status: int, code: str, words: str
) -> None:
    for path, body in (
        ("/v1/classify", {"model": "kinds", "images": [address]}),
        ("/v1/chat/completions", {"model": "seeing", "messages": shown(address)}),
    ):
        found, answer = server.ask(path, body)
        assert (found, answer["error"]["code"]) == (status, code), answer
        assert words in answer["error"]["message"]
        assert address not in answer["error"]["message"]


def test_many_and_large_requests_are_refused(server: Server) -> None:
    good = written_out(picture(1))
    status, found = server.ask("/v1/classify", {"model": "kinds", "images": [good] * 7})
    assert (status, found["error"]["code"]) == (413, "too_many_images")
    flat = [written_out(Image.new("RGB", (150, 100))) for _ in range(3)]
    status, found = server.ask("/v1/classify", {"model": "kinds", "images": flat})
    assert (status, found["error"]["code"]) == (413, "image_too_large"), "together, though each would be let in"
    assert "images.2" in found["error"]["message"]
    status, found = server.ask("/v1/classify", {"model": "kinds", "images": ["data:image/png;base64," + "A" * 400_000]})
    assert (status, found["error"]["code"]) == (413, "request_too_large")


def test_a_server_of_texts_alone_takes_no_images(server: Server, folders: dict[str, Path]) -> None:
    address = written_out(picture(1))
    status, found = server.ask("/v1/chat/completions", {"model": "chat", "messages": shown(address)})
    assert (status, found["error"]["code"]) == (400, "other_task")
    assert "reads texts alone" in found["error"]["message"]
    assert server.ask("/v1/classify", {"model": "labels", "images": [address]})[0] == 400
    assert server.ask("/v1/completions", {"model": "seeing", "prompt": "a"})[0] == 400
    house = House([folders["labels"]], LIMITS)
    assert house.max_body_bytes == LIMITS.max_body_bytes
    house.close()
    assert server.house.max_body_bytes == LIMITS.max_image_body_bytes


def test_a_damaged_image_leaves_others_alone(server: Server) -> None:
    """Requests that are computed together are computed one by one where one of them fails."""
    hosted = server.house.hosted["kinds"]
    assert isinstance(hosted, PredictingRun)
    good, damaged = written_out(picture(1)), "data:image/png;base64,AAAA"
    with server.house._computing:
        futures = [hosted.submit({"image": [one]}) for one in (good, good, damaged)]
    assert [one.result(30)[0].keys() >= {"label"} for one in futures[:2]] == [True, True]
    with pytest.raises(RefusedError, match="cannot be used"):
        futures[2].result(30)


def test_what_waits_with_images_is_bounded(runs: dict[str, Path]) -> None:
    house = House([runs["seeing"]], ServeSettings(max_held_bytes=1))
    (hosted,) = house.hosted.values()
    assert isinstance(hosted, WritingRun)
    require_images({"a": (address := written_out(shape_image("red")))}, house.settings)
    prompt = hosted.prompt([{"role": "user", "content": [{"type": "image", "image": address}]}])
    assert prompt.num_image_bytes > 0

    async def ask() -> None:
        with house._computing:
            first = hosted.submit(prompt, Writing(), room=2)
            with pytest.raises(RefusedError, match="Too many requests"):
                hosted.submit(prompt, Writing(), room=2)
        while (await first.tokens.get()).ended is None:  # type: ignore[union-attr]
            pass
        again = hosted.submit(prompt, Writing(), room=2)
        while (await again.tokens.get()).ended is None:  # type: ignore[union-attr]
            pass

    asyncio.run(ask())
    house.close()
    assert hosted._num_image_bytes == 0


def test_bodies_that_are_held_are_bounded(runs: dict[str, Path]) -> None:
    """Every body may be as large as one may be; all of them together have a limit of their own."""
    settings = ServeSettings(max_image_body_bytes=30_000, max_held_bytes=50_000)
    running = Server([runs["kinds"]], settings)
    body = {"model": "kinds", "images": [written_out(picture(1))], "padding": "x" * 20_000}
    try:
        with ThreadPoolExecutor(6) as pool:
            with running.house._computing:  # nothing is answered meanwhile
                futures = [pool.submit(running.ask, "/v1/classify", body) for _ in range(6)]
                for number, one in enumerate(as_completed(futures), start=1):
                    assert one.result()[0] == 429
                    if number == 4:
                        break
            assert sorted(one.result(30)[0] for one in futures) == [200, 200, 429, 429, 429, 429]
        assert running.ask("/v1/classify", body)[0] == 200
    finally:
        running.stop()


@pytest.mark.parametrize("name", ["kinds", "asked", "seeing"])
def test_the_line_that_the_studio_shows_asks_with_an_image(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("no curl, or no bash")
    # Longer than an argument of a program may be.
    picture(1, 256).save(tmp_path / "image.png")
    assert (tmp_path / "image.png").stat().st_size > 130_000
    route = "chat" if name == "seeing" else "classify"
    running = Server([runs[name]], ServeSettings(context=64))
    try:
        columns = list(Run.open(runs[name]).config.data.columns)
        line = commands.curl(route, running.port, columns, sees=True)
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(done.stdout)
        assert found.keys() & {"results", "choices"}, found
    finally:
        running.stop()
