"""Files as other tools write them, which say what they are only in their content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.data import DataConfig, prepare, read
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.types import InputError

NUM_ROWS = 30
TEXTS = [f"the {('soup', 'bread', 'tea')[row % 3]} of table {row} was served late again" for row in range(NUM_ROWS)]
LABELS = [("warm", "cold")[row % 2] for row in range(NUM_ROWS)]
ROWS = list(zip(TEXTS, LABELS, strict=True))
LINES = "".join(f"{text},{label}\n" for text, label in ROWS)
TOPICS = [["food"], ["room", "food"], ["staff", "room"], ["staff"], ["room"], ["food", "staff"]]


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str, str | bytes], FoundRows]:
    """Write a file and find its rows and its task."""

    def run(name: str, content: str | bytes) -> FoundRows:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return find_rows(DataConfig(path=str(path)), None)

    return run


def content_of(found: FoundRows) -> list[tuple[str, str]]:
    columns = {choice.role: choice.column for choice in found.choices}
    rows = found.raw.splits["train"]
    texts, labels = list(rows[columns["text"]]), list(rows[columns["label"]])
    return [(str(text).strip(), str(label).strip()) for text, label in zip(texts, labels, strict=True)]


QUESTION = "What did you think of the meal that you had with us on your last visit? (a few words will do)"
TABLES = {
    "a title above the names": f"Guests of 2023,\n,\nremark,state\n{LINES}",
    "comments above the names": f"# made by a machine\n# do not edit\ntext,label\n{LINES}",
    "questions as names": f"{QUESTION},How warm was it?\n{LINES}",
    "numbers as names": f"0,1\n{LINES}",
    "names once more": f"text,label\n{LINES[:400].rpartition(chr(10))[0]}\ntext,label\n"
    f"{LINES[LINES[:400].rindex(chr(10)) + 1 :]}",
    "two marks of byte order": f"\ufeff\ufefftext,label\n{LINES}",
    "spaces before quotes": "text, label\n" + "".join(f'"{text}", "{label}"\n' for text, label in ROWS),
    "a table drawn with bars": "| text | label |\n|:---|---|\n"
    + "".join(f"| {text} | {label} |\n" for text, label in ROWS),
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_names_of_columns_are_no_row(find, content: str) -> None:
    found = find("x.csv", content)
    assert found.task.name == "classification"
    assert content_of(found) == ROWS
    assert not found.raw.rejected


def test_a_first_row_of_values_is_a_row(find) -> None:
    assert content_of(find("x.csv", LINES)) == ROWS


CELLS: dict[str, Callable[[list[str]], str]] = {
    "numpy": lambda topics: "[" + " ".join(map(repr, topics)) + "]",
    "a database": lambda topics: "{" + ",".join(topics) + "}",
    "a set": lambda topics: "{" + ", ".join(map(repr, topics)) + "}",
    "Chinese commas": "、".join,
    "wide semicolons": "；".join,
    "lines": "\n".join,
}


@pytest.mark.parametrize("write", CELLS.values(), ids=CELLS)
def test_several_labels_in_a_cell(find, write: Callable[[list[str]], str]) -> None:
    rows = [(text, write(TOPICS[row % len(TOPICS)])) for row, text in enumerate(TEXTS)]
    found = find("x.csv", pd.DataFrame(rows, columns=["text", "labels"]).to_csv(index=False))
    from tunesmith.data import prepare

    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert found.task.bind(prepared.splits["train"].columns()).labels == ("food", "room", "staff")  # type: ignore[attr-defined]


AMOUNTS = {
    "percent": "{}.5%",
    "unit": "{} kg",
    "currency": "€{},50",
    "thousands": "{},000",
    "ledger": "({}.25)",
    "minus": "−{}",
}


@pytest.mark.parametrize("form", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_that_are_no_numbers_are_named(find, form: str) -> None:
    rows = [(text, form.format(row + 10)) for row, text in enumerate(TEXTS)]
    with pytest.raises(
        InputError, match=r"(?s)'weight' holds amounts that are not written as plain numbers.*causal_lm"
    ) as error:
        find("x.csv", pd.DataFrame(rows, columns=["text", "weight"]).to_csv(index=False))
    assert form.format(10) in str(error.value)


@pytest.mark.parametrize("number", ["2{:03}-01-05", "{:06}", "1.{}.3", "10:{:02}", "abc{}"])
def test_dates_and_names_are_no_amounts(find, number: str) -> None:
    rows = [(text, number.format(row)) for row, text in enumerate(TEXTS)]
    assert find("x.csv", pd.DataFrame(rows, columns=["text", "note"]).to_csv(index=False)).task.name != "classification"


@pytest.mark.parametrize("label", [{"id": 1, "share": 0.5}, "a label of its own {}"], ids=["objects", "all different"])
def test_labels_that_cannot_be_read_are_asked_for(find, label: object) -> None:
    rows = [
        {"text": text, "label": label.format(row) if isinstance(label, str) else label}
        for row, text in enumerate(TEXTS)
    ]
    with pytest.raises(InputError, match="'label' is named as what is to be predicted"):
        find("x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_several_labels_are_a_question_not_running_text(find) -> None:
    rows = [(text, f"w{row % 5}", "ab"[row % 2], row % 2, (row + 1) % 2) for row, text in enumerate(TEXTS)]
    frame = pd.DataFrame(rows, columns=["remark", "waiter", "house", "late", "cold"])
    with pytest.raises(InputError, match=r"(?s)Several columns.*data\.columns\.label late,cold"):
        find("x.csv", frame.to_csv(index=False))


def test_objects_that_are_no_spans_leave_the_labels(find) -> None:
    rows = [{"text": text, "entities": {"tags": [], "links": [{"u": "x"}]}, "mood": label} for text, label in ROWS]
    found = find("x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert content_of(found) == ROWS


def test_hundreds_of_labels_are_labels_by_their_name(find) -> None:
    rows = [(f"{TEXTS[row % NUM_ROWS]} {row}", f"wish_{row % 90}") for row in range(270)]
    found = find("x.csv", pd.DataFrame(rows, columns=["text", "intent"]).to_csv(index=False))
    assert found.task.name == "classification"


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_binary_columns_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array([text.encode() for text in TEXTS], kind)
    pictures = pa.array([b"\x89PNG\x00\x01" for _ in TEXTS], kind)
    pq.write_table(pa.table({"text": texts, "picture": pictures, "label": LABELS}), tmp_path / "x.parquet")
    found = find_rows(DataConfig(path=str(tmp_path / "x.parquet")), None)
    assert content_of(found) == ROWS
    assert found.profiles["picture"].kind == "image"


@pytest.mark.parametrize("orient", ["split", "records", "index", "columns", "table", "values"])
def test_what_pandas_writes_as_json(find, orient: str) -> None:
    frame = pd.DataFrame(ROWS, columns=["remark", "state"])
    found = find("x.json", frame.to_json(orient=orient))
    assert content_of(found) == ROWS
    if orient != "values":
        assert {choice.column for choice in found.choices} == {"remark", "state"}


MARKUP = ["<?xml version='1.0'?><a>", "<!DOCTYPE html>\n<p>", "\n<html>", "{\\rtf1 ", "% made\n@relation x"]


@pytest.mark.parametrize("start", MARKUP)
def test_documents_with_marks_are_refused_unless_wanted(find, tmp_path: Path, start: str) -> None:
    with pytest.raises(InputError, match=r"(?s)its rows cannot be read.*data\.passage 0"):
        find("x.txt", start + "\n" + LINES)
    wanted = read(DataConfig(path=str(tmp_path / "x.txt"), passage=0))
    assert len(wanted.splits["train"]) >= NUM_ROWS


@pytest.mark.parametrize("content", ["{}", "\n \n\n", '{"text": [], "label": []}'])
def test_nothing_is_said_to_be_nothing(find, content: str) -> None:
    with pytest.raises(InputError, match=r"no rows|nothing but empty cells"):
        find("x.json" if content.startswith("{") else "x.csv", content)


FILLER = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna"
)
SENTENCES = [" ".join(FILLER.split()[row % 5 : 6 + row % 11]) + f" {row}" for row in range(NUM_ROWS)]


@pytest.mark.parametrize("names", ["first\tsecond\n", "title\tarticle\n", ""])
def test_two_texts_without_a_word_on_their_use_are_a_question(find, names: str) -> None:
    rows = "".join(f"{one}\t{other}\n" for one, other in zip(SENTENCES, TEXTS, strict=True))
    first, second = names.split() or ("column_1", "column_2")
    with pytest.raises(InputError, match="Several columns hold texts") as caught:
        find("pairs.tsv", names + rows)
    assert f"data.columns.prompt {first} and data.columns.completion {second}" in str(caught.value)


def test_two_languages_are_a_translation_whose_direction_is_told(find) -> None:
    rows = "".join(f"{one}\t{other}\n" for one, other in zip(SENTENCES, TEXTS, strict=True))
    found = find("pairs.tsv", f"english\tgerman\n{rows}")
    assert found.task.name == "seq2seq"
    assert [(choice.role, choice.column) for choice in found.choices] == [("source", "english"), ("target", "german")]
    assert "for the other way round: data.columns.source german" in found.choices[0].reason


def test_names_say_which_text_is_meant(find) -> None:
    rows = "".join(f"{one}\t{other}\n" for one, other in zip(SENTENCES, TEXTS, strict=True))
    (choice,) = find("pages.tsv", f"remark\tbody\n{rows}").choices
    assert choice.column == "body"


def test_two_names_of_one_length_are_no_tokens_and_tags(find) -> None:
    rows = "".join(
        f"{row}\tfiction\t{SENTENCES[row]}\t{TEXTS[row]}\tneutral\t{('yes', 'no', 'maybe')[row % 3]}\n"
        for row in range(NUM_ROWS)
    )
    found = find("dev.tsv", f"index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n{rows}")
    assert {choice.role: choice.column for choice in found.choices} == {
        "text": "sentence1",
        "text_pair": "sentence2",
        "label": "gold_label",
    }


def test_a_dash_beside_words_is_no_label(find) -> None:
    rows = [{"text": text, "label": "-" if row < 3 else label} for row, (text, label) in enumerate(ROWS)]
    found = find("x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert prepared.left_out == {"empty label": 3}
    assert any("'-' in column 'label' was read as no label" in one.message for one in prepared.problems)
    signs = [{"text": text, "label": "+-"[row % 2]} for row, text in enumerate(TEXTS)]
    found = find("y.jsonl", "".join(json.dumps(row) + "\n" for row in signs))
    assert not prepare(found.raw, found.data, found.choices, found.form).left_out, "beside a plus it is one"


@pytest.mark.parametrize(("empty", "is_single"), [(3, True), (15, False)])
def test_lists_of_one_label_each_are_labels(find, empty: int, is_single: bool) -> None:
    rows = [{"text": text, "label": [label] if row >= empty else []} for row, (text, label) in enumerate(ROWS)]
    found = find("x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert prepared.left_out == ({"empty label": empty} if is_single else {})
    assert isinstance(prepared.splits["train"]["label"][0], str) == is_single
    frame = pd.DataFrame({"text": TEXTS, "label": [str([label]) for label in LABELS]})
    found = find("x.csv", frame.to_csv(index=False))
    assert set(prepare(found.raw, found.data, found.choices, found.form).splits["train"]["label"]) == set(LABELS)


def test_columns_that_only_speak_of_a_label_must_have_values_to_tell_apart(find) -> None:
    frame = pd.DataFrame({
        "product_category": "Garden", "star_grade": [row % 5 + 1 for row in range(NUM_ROWS)],
        "review_headline": [f"table {row}" for row in range(NUM_ROWS)], "review_body": TEXTS,
    })  # fmt: skip
    found = find("x.csv", frame.to_csv(index=False))
    assert {one.role: one.column for one in found.choices} == {"text": "review_body", "label": "star_grade"}


def test_yes_and_no_are_no_words_of_a_passage(find) -> None:
    rows = [{"question": f"was {row} late", "passage": text, "answer": row % 2 == 0} for row, text in enumerate(TEXTS)]
    found = find("x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert found.task.name == "classification"
    assert {one.role: one.column for one in found.choices}["label"] == "answer"


def test_rows_beside_the_splits_of_an_object_are_told(find) -> None:
    splits = {"train": ROWS[:20], "test": ROWS[20:], "outside_train": ROWS[:5]}
    found = find("x.json", json.dumps(splits))
    assert len(found.raw.splits["train"]) == 20
    assert any("outside_train" in one.message and one.severity == "warning" for one in found.raw.problems)
