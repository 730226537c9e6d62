"""JSON of every usual form, whatever the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import DataConfig, read
from tunesmith.types import InputError

ROWS = [{"text": f"some words {row}", "label": ["a", "b"][row % 2]} for row in range(6)]
LISTS = [[row["text"], row["label"]] for row in ROWS]


def dump(value: object, **options: object) -> str:
    return json.dumps(value, **options)  # type: ignore[arg-type]


FORMS = {
    "lines": "\n".join(map(dump, ROWS)),
    "lines with commas": ",\n".join(map(dump, ROWS)),
    "python": "\n".join(map(str, ROWS)),
    "list": dump(ROWS),
    "indented list": dump(ROWS, indent=2),
    "indented objects": "\n".join(dump(row, indent=2) for row in ROWS),
    "objects on one line": "".join(map(dump, ROWS)),
    "objects with commas": ",\n".join(dump(row, indent=1) for row in ROWS),
    "wrapper": dump({"version": 1, "data": ROWS}),
    "wrapper in a wrapper": dump({"result": {"examples": ROWS}}),
    "columns": dump({name: [row[name] for row in ROWS] for name in ("text", "label")}),
    "columns by index": dump({name: {str(row): ROWS[row][name] for row in range(6)} for name in ("text", "label")}),
    "rows by key": dump({f"id{row}": ROWS[row] for row in range(6)}),
    "rows by number": dump({str(row): ROWS[row] for row in range(6)}),
    "rows of a server": dump({"features": [], "rows": [{"row_idx": 0, "row": row} for row in ROWS]}),
    "lists with a header": dump([["text", "label"], *LISTS]),
    "lines of lists with a header": "\n".join(map(dump, [["text", "label"], *LISTS])),
}


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.txt", "x", "x.JSON", "x.cfg"])
@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_forms(read_text, name: str, content: str) -> None:
    rows = read_text(name, content).splits["train"]
    assert [{"text": row["text"], "label": row["label"]} for row in rows] == ROWS


@pytest.mark.parametrize("content", [dump(LISTS, indent=1), "\n".join(map(dump, LISTS)), dump({"data": LISTS})])
def test_rows_that_are_lists(read_text, content: str) -> None:
    raw = read_text("x.json", content)
    assert raw.splits["train"]["column_1"][:] == [row["text"] for row in ROWS]
    assert [(guess.name, guess.chosen, guess.explained) for guess in raw.guesses] == [("rows", "lists", 6)]


def test_a_list_of_texts_and_a_conversation_a_line(read_text) -> None:
    assert read_text("x.json", '["one text", "two texts"]').splits["train"]["text"][:] == ["one text", "two texts"]
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = read_text("y.jsonl", f"{dump(talk)}\n{dump(talk)}\n").splits["train"]
    assert json.loads(rows["messages"][1]) == talk


@pytest.mark.parametrize("rows", [ROWS, LISTS], ids=["objects", "lists"])
@pytest.mark.parametrize("names", [("train", "val", "test"), ("training_set", "dev_set", "test_set")])
def test_an_object_of_splits(read_text, rows: list, names: tuple[str, str, str]) -> None:
    content = {names[0]: rows, names[1]: rows[:2], names[2]: rows[2:3], "oos_test": rows[:1]}
    for options in ({"indent": 1}, {}):
        raw = read_text("x.json", dump(content, **options))
        assert {split: len(table) for split, table in raw.splits.items()} == {"train": 6, "validation": 2, "test": 1}
        assert raw.splits["test"]["__row__"][0] == f"x.json:{names[2]}:1"


def test_the_kind_of_rows_is_that_of_most(read_text) -> None:
    lines = [*map(dump, LISTS * 50), dump(ROWS[0]), "[1, 2, 3]"]
    raw = read_text("x.jsonl", "\n".join(lines))
    assert len(raw.splits["train"]) == 300
    assert [row.reason for row in raw.rejected] == [
        "an object where a list of cells was expected", "3 cells where 2 were expected"
    ]  # fmt: skip
    assert raw.guesses[0].alternatives == (("objects", 1),)


def test_broken_objects_name_their_line(read_text) -> None:
    content = "\n".join(dump(row, indent=1) for row in ROWS) + '\n{"text": "cut'
    with pytest.raises(InputError, match=r"x\.json, line 25: not valid JSON"):
        read_text("x.json", content)


def test_content_decides_against_a_name_of_json(read_text) -> None:
    rows = read_text("x.json", "text,label\nsome words,a\nother words,b\nthird words,a\n").splits["train"]
    assert rows["label"][:] == ["a", "b", "a"]
    assert read_text("y.csv", FORMS["lines"]).splits["train"]["text"][0] == "some words 0"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-7", "hz", "iso2022_jp", "cp037", "ascii"])
@pytest.mark.parametrize(
    "content", [b"text,label\nwords,a\nmore,b\n", b"text,label\nw\xffrds,a\n\xd8\x00", b"\xff" * 33]
)
def test_a_wrong_encoding_is_a_message(read_bytes, encoding: str, content: bytes) -> None:
    for name in ("x.csv", "x.jsonl", "x.txt"):
        try:
            raw = read_bytes(name, content, encoding=encoding)
        except InputError:
            continue
        assert len(raw.splits["train"]) + len(raw.rejected)


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_without_a_mark(read_bytes, order: str) -> None:
    content = "text,label\n好的 words,a\n很 more,b\nthe third,c\n".encode(order)
    raw = read_bytes("x.csv", content, encoding=order[:6])
    assert raw.splits["train"]["text"][0] == "好的 words"


KINDS = {
    "whole numbers and fractions": ([1, 2], [0.5, None], [1.0, 2.0, 0.5, None]),
    "numbers beyond doubles": ([2**60 + 1, 2], [0.5, 1.5], [str(2**60 + 1), "2", "0.5", "1.5"]),
    "numbers and words": ([1, 2], ["b", "1"], ["1", "2", "b", "1"]),
    "truth values and words": ([True, False], ["maybe", None], ["true", "false", "maybe", None]),
    "nothing and numbers": ([None, None], [3, 4], [None, None, 3, 4]),
    "lists": ([[1], []], [["a"], None], [["1"], [], ["a"], None]),
    "a list and a word": ([["a"], ["b"]], ["c", "d"], ['["a"]', '["b"]', "c", "d"]),
}


@pytest.mark.parametrize(("first", "second", "wanted"), KINDS.values(), ids=KINDS)
def test_pieces_whose_cells_are_of_other_kinds(
    tmp_path: Path, first: list[Any], second: list[Any], wanted: Any
) -> None:
    for number, cells in enumerate((first, second)):
        rows = [{"text": f"text {number} {row}", "more": cell} for row, cell in enumerate(cells)]
        rows = [dict(reversed(row.items())) for row in rows] if number else rows
        (tmp_path / f"train-{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = read(DataConfig(path=str(tmp_path))).splits["train"]
    assert list(table["more"]) == wanted
    assert list(table["text"])[::2] == ["text 0 0", "text 1 0"]


def test_texts_by_class(read_text) -> None:
    texts = {"praise": ["so good", "what a day", "again!"], "blame": ["so bad", "never"]}
    columns = read_text("x.json", json.dumps(texts, indent=1)).splits["train"]
    assert list(columns["text"]) == [*texts["praise"], *texts["blame"]]
    assert list(columns["label"]) == ["praise"] * 3 + ["blame"] * 2


def test_lists_of_one_length_are_columns(read_text) -> None:
    columns = read_text("x.json", json.dumps({"en": ["a", "b"], "de": ["c", "d"]})).splits["train"]
    assert list(columns["de"]) == ["c", "d"]


@pytest.mark.parametrize(
    "around",
    [
        {"took": 3, "hits": {"total": {"value": 2}, "hits": "HERE"}},
        {"meta": {"version": "1"}, "result": {"page": {"number": 1, "size": 2, "items": "HERE"}}},
        {"status": "ok", "payload": {"list": "HERE"}},
    ],
)
def test_rows_deep_within_an_object(read_text, around: dict[str, Any]) -> None:
    rows = [{"text": f"text {row}", "label": "ab"[row % 2]} for row in range(4)]
    columns = read_text("x.json", json.dumps(around).replace('"HERE"', json.dumps(rows))).splits["train"]
    assert list(columns["text"]) == ["text 0", "text 1", "text 2", "text 3"]
    assert list(columns["label"]) == ["a", "b", "a", "b"]


def test_two_lists_of_rows_within_are_no_rows(read_text) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    with pytest.raises(InputError, match="holds no rows"):
        read_text("x.json", json.dumps({"one": {"items": rows}, "two": {"results": rows}}, indent=1))


@pytest.mark.parametrize("wrapper", ["fields", "_source", "attributes", "properties", "row", "payload", "node"])
def test_columns_that_stand_in_an_object_of_their_own(read_text, wrapper: str) -> None:
    rows = [{"id": row, "type": "note", wrapper: {"text": f"text {row}", "label": "x", "id": 7}} for row in range(3)]
    columns = read_text("x.jsonl", "\n".join(map(json.dumps, rows))).splits["train"]
    assert list(columns["text"]) == ["text 0", "text 1", "text 2"]
    assert list(columns["id"]) == [0, 1, 2]
    assert list(columns[f"{wrapper}.id"]) == [7, 7, 7]
    assert wrapper not in columns


def test_an_object_beside_a_text_stays(read_text) -> None:
    rows = [{"text": "some words", "label": "x", "attributes": {"text": "other"}}] * 2
    columns = read_text("x.jsonl", "\n".join(map(json.dumps, rows))).splits["train"]
    assert list(columns["text"]) == ["some words"] * 2
    assert len(columns["attributes"]) == 2


@pytest.mark.parametrize(("label", "texts"), [("tag", "patterns"), ("intent", "examples"), ("name", "utterances")])
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_utterances_under_their_label(read_text, label: str, texts: str, is_wrapped: bool) -> None:
    intents = [
        {label: "greeting", texts: ["hi", "good day"], "responses": ["hello"]},
        {label: "thanks", texts: ["thank you"], "responses": ["my pleasure", "any time"]},
        {label: "fallback", texts: [], "responses": ["what?"]},
    ]
    data = read_text("x.json", json.dumps({"intents": intents} if is_wrapped else intents))
    columns = data.splits["train"]
    (guess,) = data.guesses
    assert (guess.chosen, guess.explained, guess.alternatives) == ("texts listed under a label", 3, (("objects", 2),))
    assert list(columns["text"]) == ["hi", "good day", "thank you"]
    assert list(columns["label"]) == ["greeting", "greeting", "thanks"]
    assert list(columns["responses"]) == [["hello"], ["hello"], ["my pleasure", "any time"]]


def test_a_text_of_its_own_stays(read_text) -> None:
    rows = [{"text": "a question", "label": "x", "examples": ["one", "two"]}] * 2
    assert list(read_text("x.json", json.dumps(rows)).splits["train"]["text"]) == ["a question"] * 2


@pytest.mark.parametrize("yes", [1, 1.0, True])
def test_objects_of_labels(read_text, yes: float) -> None:
    cats = [{"ripe": yes, "raw": 0}, {"ripe": False, "raw": yes}, {"ripe": 0, "raw": 0}]
    lines = "".join(json.dumps({"text": f"apple {row}", "cats": one}) + "\n" for row, one in enumerate(cats))
    assert list(read_text("x.jsonl", lines).splits["train"]["cats"]) == [["ripe"], ["raw"], []]
    pairs = [[f"apple {row}", {"cats": one}] for row, one in enumerate(cats)]
    assert list(read_text("x.json", json.dumps(pairs)).splits["train"]["column_2"]) == [["ripe"], ["raw"], []]


def test_objects_of_shares_stay_objects(read_text) -> None:
    lines = "".join(json.dumps({"text": "pear", "cats": {"ripe": 0.5, "raw": 0.5}}) + "\n" for _ in range(3))
    assert json.loads(read_text("x.jsonl", lines).splits["train"]["cats"][0]) == {"ripe": 0.5, "raw": 0.5}
