"""Conversations that show images: every usual form is read to the same rows, and what cannot be shown is said."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("PIL")

from seeing import shape_image, write_rows
from tunesmith.config.build import build
from tunesmith.data import DataConfig
from tunesmith.data.image_chat_rows import read_conversation
from tunesmith.data.messages import IMAGE_PLACE
from tunesmith.run.assembly import load_data
from tunesmith.run.config import RunConfig
from tunesmith.run.rows import find_rows
from tunesmith.types import InputError

NUM = 12


def image(folder: Path, number: int) -> Path:
    path = folder / "images" / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = ("red", "green", "blue")[number % 3]
    shape_image(colour, size=20 + number).save(path)
    return path


def question(number: int) -> str:
    return f"Which colour is it, the {number}?"


def answer(number: int) -> str:
    return f"It is number {number} of the colours, I think."


def parts(number: int, given: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [given or {"type": "image"}, {"type": "text", "text": question(number)}]


def openai(folder: Path, number: int) -> dict[str, Any]:
    given = {"type": "image_url", "image_url": {"url": f"images/{image(folder, number).name}"}}
    return {"messages": turns(parts(number, given), number)}


def turns(content: Any, number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer(number)}]


def written_out(folder: Path, number: int) -> dict[str, Any]:
    content = base64.b64encode(image(folder, number).read_bytes()).decode()
    given = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}}
    return {"messages": turns(parts(number, given), number)}


def with_path(folder: Path, number: int) -> dict[str, Any]:
    return {
        "messages": turns(parts(number, {"type": "image", "image": f"images/{image(folder, number).name}"}), number)
    }


def llama_factory(folder: Path, number: int) -> dict[str, Any]:
    return {"messages": turns(f"<image>{question(number)}", number), "images": [f"images/{image(folder, number).name}"]}


def llava(folder: Path, number: int) -> dict[str, Any]:
    said = [{"from": "human", "value": f"<image>{question(number)}"}, {"from": "gpt", "value": answer(number)}]
    return {"id": number, "image": f"images/{image(folder, number).name}", "conversations": said}


def trl(folder: Path, number: int) -> dict[str, Any]:
    return {"messages": turns(parts(number), number), "images": [f"images/{image(folder, number).name}"]}


def trl_without_places(folder: Path, number: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question(number)}],
        "completion": [{"role": "assistant", "content": answer(number)}],
        "images": [f"images/{image(folder, number).name}"],
    }


def asked(folder: Path, number: int) -> dict[str, Any]:
    return {"image": f"images/{image(folder, number).name}", "question": question(number), "answer": answer(number)}


FORMS = (openai, written_out, with_path, llama_factory, llava, trl, trl_without_places, asked)


def data_of(path: Path, **settings: Any) -> Any:
    return load_data(build(RunConfig, {"model": "sample:minilm", "data": {"path": str(path), **settings}}))


def messages_of(data: Any) -> list[Any]:
    """Return the rows of all splits, in an order of their own, without where images lie."""
    found = [json.loads(cell) for split in data.prepared.splits.values() for cell in split.columns()["messages"]]
    for row in found:
        for message in row:
            for shown in message.get("images", ()):
                del shown["image"]
    return sorted(found, key=lambda row: json.dumps(row, sort_keys=True))


def expected(folder: Path) -> list[Any]:
    rows = []
    for number in range(NUM):
        given = [{"type": "image", "image": str(image(folder, number))}, {"type": "text", "text": question(number)}]
        rows.append(read_conversation(turns(given, number)))
    for row in rows:
        del row[0]["images"][0]["image"]
        assert row[0]["content"] == IMAGE_PLACE + row[0]["content"][1:]
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_usual_form_is_found_and_read_to_the_same_rows(tmp_path: Path, form: Any) -> None:
    data = data_of(write_rows(tmp_path / "rows.jsonl", [form(tmp_path, number) for number in range(NUM)]))
    assert data.task.name == "image_chat"
    assert messages_of(data) == expected(tmp_path)


def test_the_character_that_stands_for_images_is_text_where_somebody_wrote_it(tmp_path: Path) -> None:
    rows = [asked(tmp_path, number) for number in range(NUM)]
    rows[3]["question"] = f"{IMAGE_PLACE}{question(3)}"
    data = data_of(write_rows(tmp_path / "rows.jsonl", rows))
    found = [row[0] for row in messages_of(data) if question(3) in row[0]["content"]]
    assert [(one["content"], len(one["images"])) for one in found] == [(f"{IMAGE_PLACE}\ufffd{question(3)}", 1)]


@pytest.mark.parametrize("kind", ["lists of bytes", "one of bytes"])
def test_images_that_a_parquet_file_holds_itself_are_read(tmp_path: Path, kind: str) -> None:
    rows = []
    for number in range(NUM):
        held = {"bytes": image(tmp_path, number).read_bytes(), "path": None}
        shown = {"images": [held]} if kind == "lists of bytes" else {"image": held}
        rows.append({"prompt": question(number), "completion": answer(number), **shown})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    data = data_of(tmp_path / "rows.parquet")
    assert data.task.name == "image_chat"
    assert messages_of(data) == expected(tmp_path)


def test_rows_in_memory_may_hold_the_bytes_of_images(tmp_path: Path) -> None:
    from tunesmith.data.frames import as_path

    rows = [
        {"prompt": question(number), "completion": answer(number), "images": [image(tmp_path, number).read_bytes()]}
        for number in range(NUM)
    ]
    assert messages_of(data_of(Path(as_path(rows)))) == expected(tmp_path)


def test_archives_beside_the_table_hold_images(tmp_path: Path) -> None:
    import zipfile

    rows = [llama_factory(tmp_path / "away", number) for number in range(NUM)]
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "pictures.zip", "w") as archive:
        for number in range(NUM):
            archive.write(image(tmp_path / "away", number), f"images/{number}.png")
    data = data_of(write_rows(tmp_path / "data" / "rows.jsonl", rows))
    assert messages_of(data) == expected(tmp_path / "away")


def test_what_cannot_be_shown_is_counted_listed_and_left_out(tmp_path: Path) -> None:
    rows = [llama_factory(tmp_path, number) for number in range(40)]
    rows[3]["images"] = ["images/3.png", "images/4.png"]
    rows[5]["messages"][0]["content"] = f"<image><image>{question(5)}"
    rows[7]["images"] = ["images/nowhere.png"]
    (tmp_path / "images" / "8.png").write_bytes(b"\x89PNG nothing")
    rows[9]["images"] = ["https://example.org/9.png"]
    rows[11]["images"] = ["../secret.png"]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError) as raised:
        data_of(path, bad_rows="refuse")
    said = str(raised.value)
    for words in ("more or fewer places", "not there", "cut off or damaged", "addresses on the web", "lead out of"):
        assert words in said, words
    assert "rows.jsonl:4" in said
    assert "rows.jsonl:6" in said
    data = data_of(path, bad_rows="quarantine")
    assert sum(len(split) for split in data.prepared.splits.values()) == 34


def test_an_image_never_stands_on_two_sides(tmp_path: Path) -> None:
    rows = []
    for number in range(90):
        row = llama_factory(tmp_path, number % 30)
        row["messages"] = turns(f"<image>{question(number)}", number)
        rows.append(row)
    data = data_of(write_rows(tmp_path / "rows.jsonl", rows))
    sides = {name: set(split.columns()["content"]) for name, split in data.prepared.splits.items()}
    assert not sides["train"] & (sides["validation"] | sides["test"])


def test_a_text_without_images_may_speak_of_them(tmp_path: Path) -> None:
    rows = [openai(tmp_path, number) for number in range(NUM)]
    rows[2] = {"messages": turns("What does <image> stand for?", 2)}
    data = data_of(write_rows(tmp_path / "rows.jsonl", rows))
    found = messages_of(data)
    assert any(message["content"] == "What does <image> stand for?" for row in found for message in row)


def test_conversations_of_texts_alone_still_refuse_images(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [openai(tmp_path, number) for number in range(NUM)])
    task = build(RunConfig, {"model": "sample:minilm", "data": str(path), "task": "causal_lm"}).task
    with pytest.raises(InputError, match="image_chat"):
        load_data(build(RunConfig, {"model": "sample:minilm", "data": str(path), "task": "causal_lm"}))
    assert find_rows(DataConfig(path=str(path)), task).task.name == "causal_lm"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"type": "image", "image": "nowhere.png"}], "is not there"),
        ([{"type": "image"}], "no image is named"),
        ([{"type": "audio", "audio": "a.wav"}], "cannot be read"),
        ([{"type": "image", "image": "data:image/png;base64,????"}], "no base64"),
        ([{"type": "image", "image": "https://example.org/1.png"}], "nothing is fetched"),
    ],
)
def test_conversations_of_a_program_are_refused_in_words(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_conversation([{"role": "user", "content": given}])


def test_lists_of_images_are_told_from_other_lists(tmp_path: Path) -> None:
    rows = [{"text": f"words {number} of the text", "label": ["a.b", "c"]} for number in range(NUM)]
    data = data_of(write_rows(tmp_path / "rows.jsonl", rows))
    assert data.task.name == "classification"
    assert np.sum([len(split) for split in data.prepared.splits.values()]) == NUM
