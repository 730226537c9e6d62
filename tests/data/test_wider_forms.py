"""Forms that tools and services write: names within objects, commas too many, signs of other scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from tunesmith.data import DataConfig, RawData, prepare
from tunesmith.data.cells import parse_list
from tunesmith.data.encoding_guess import detect_encoding
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.types import InputError

NUM_ROWS = 30
TEXTS = [f"the {('drum', 'flute', 'viola')[row % 3]} of player {row} was out of tune again" for row in range(NUM_ROWS)]
MOODS = [("glad", "cross")[row % 2] for row in range(NUM_ROWS)]


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str, str | bytes], FoundRows]:
    def run(name: str, content: str | bytes) -> FoundRows:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return find_rows(DataConfig(path=str(path)), None)

    return run


def lines_of(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def roles_of(found: FoundRows) -> dict[str, str]:
    return {choice.role: choice.column for choice in found.choices}


def labels_of(found: FoundRows) -> tuple[str, ...]:
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    return tuple(found.task.bind(prepared.splits["train"].columns()).label_names)


# ---- names within objects ------------------------------------------------------------------------

SUBJECTS = [
    [{"id": 3, "name": "tempo"}],
    [{"id": 3, "name": "tempo"}, {"id": 8, "name": "pitch"}],
    [{"id": 5, "name": "bow"}],
]


@pytest.mark.parametrize("write", [json.dumps, repr], ids=["JSON", "Python"])
def test_lists_of_objects_with_a_name_are_labels(find, write: Callable[[Any], str]) -> None:
    cells = [SUBJECTS[row % 3] for row in range(NUM_ROWS)]
    frame = pd.DataFrame({"said": TEXTS, "subjects": [write(cell) for cell in cells]})
    for name, content in (
        ("x.csv", frame.to_csv(index=False)),
        ("x.jsonl", lines_of([{"said": text, "subjects": cell} for text, cell in zip(TEXTS, cells, strict=True)])),
    ):
        found = find(name, content)
        assert roles_of(found) == {"text": "said", "label": "subjects"}
        assert labels_of(found) == ("bow", "pitch", "tempo")


@pytest.mark.parametrize(
    "items",
    [
        [{"start": 0, "end": 3, "label": "A"}],
        [{"name": "play", "parameters": {"type": "object"}}],
        [{"label": "A", "text": "the first one"}],
        [{"name": "Ann", "said": "come in here"}],
        [{"id": 4}],
        [{"name": "a"}, "b"],
    ],
)
def test_objects_that_are_more_than_a_name_stay(items: list[Any]) -> None:
    assert parse_list(json.dumps(items)) is None


def test_labels_that_are_objects_with_a_name(find) -> None:
    rows = [{"said": text, "label": {"id": row % 2, "name": MOODS[row]}} for row, text in enumerate(TEXTS)]
    assert labels_of(find("x.jsonl", lines_of(rows))) == ("cross", "glad")


def test_one_choice_or_several_of_an_annotation_tool(find) -> None:
    answers: list[Any] = ["pitch", {"choices": ["pitch", "bow"]}, "tempo"]
    rows = [{"said": text, "about": answers[row % 3]} for row, text in enumerate(TEXTS)]
    assert labels_of(find("x.json", json.dumps(rows))) == ("bow", "pitch", "tempo")


@pytest.mark.parametrize(
    "row",
    [
        lambda text, mood: {
            "id": 4,
            "mood": mood,
            "note": {"body": text, "by": {"id": 7, "kind": "guest"}},
            "tags": [],
        },
        lambda text, mood: {"mood": mood, "entry_1": {"body": text, "lang": "en"}},
    ],
)
def test_a_text_within_one_object(find, row: Callable[[str, str], Any]) -> None:
    found = find("x.jsonl", lines_of([row(*pair) for pair in zip(TEXTS, MOODS, strict=True)]))
    assert roles_of(found) == {"text": "body", "label": "mood"}


def test_who_writes_to_a_group_is_no_role(find) -> None:
    said = [{"id": row, "from": ("Ann", "Bo")[row % 2], "text": text} for row, text in enumerate(TEXTS)]
    found = find("x.json", json.dumps({"name": "band", "messages": said}, indent=1))
    assert len(found.raw.splits["train"]) == NUM_ROWS
    assert roles_of(found)["text"] == "text"


# ---- signs too many, signs of others -------------------------------------------------------------


def test_a_comma_behind_the_last_element(find) -> None:
    rows = "".join(f" {json.dumps({'said': text, 'mood': mood})},\n" for text, mood in zip(TEXTS, MOODS, strict=True))
    assert len(find("x.json", f"[\n{rows}]\n").raw.splits["train"]) == NUM_ROWS
    with pytest.raises(InputError, match="not valid JSON"):
        find("y.json", f"[\n{rows},]\n")


@pytest.mark.parametrize("sign", "，；｜")
def test_wide_signs_separate(read_text: Callable[..., RawData], sign: str) -> None:
    texts = [f"第{row}位乐手又走调了{'，真的' if sign != '，' else ''}" for row in range(NUM_ROWS)]
    content = f"内容{sign}标签\n" + "".join(f"{text}{sign}{('好', '坏')[row % 2]}\n" for row, text in enumerate(texts))
    columns = read_text("x.csv", content).splits["train"]
    assert list(columns["内容"][:]) == texts
    assert set(columns["标签"][:]) == {"好", "坏"}


def test_wide_commas_of_sentences_separate_nothing(read_text: Callable[..., RawData]) -> None:
    texts = [f"第{row}位乐手走调了，大家都听见{row % 7}次，真可惜" for row in range(NUM_ROWS)]
    columns = read_text("x.txt", "\n".join(texts) + "\n").splits["train"]
    assert list(columns["column_1"][:]) == texts


def test_what_databases_write_for_nothing_is_no_label(find) -> None:
    marks = ["\\N" if row % 10 == 0 else MOODS[row] for row in range(NUM_ROWS)]
    found = find("x.tsv", "".join(f"{text}\t{mark}\n" for text, mark in zip(TEXTS, marks, strict=True)))
    assert labels_of(found) == ("cross", "glad")
    numbers = ["\\N" if row % 10 == 0 else f"{row / 7:.3f}" for row in range(NUM_ROWS)]
    found = find(
        "y.tsv", "said\tpitch\n" + "".join(f"{text}\t{one}\n" for text, one in zip(TEXTS, numbers, strict=True))
    )
    assert found.task.name == "regression"


# ---- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["£", "’", "“x”", "§", "°C", "½"])
@pytest.mark.parametrize("encoding", ["cp1252"])
def test_signs_without_letters_are_western(tmp_path: Path, sign: str, encoding: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("".join(f"it costs {sign}{row} a piece, {sign} in all\n" for row in range(9)).encode(encoding))
    assert detect_encoding(path)[0] == encoding


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["第{}位乐手走调了", "连続{}回目の演奏でした", "{}번째 연주였습니다", "играет {} раз"])
def test_wide_encodings_without_a_mark_in_any_writing(tmp_path: Path, order: str, text: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(("text,label\n" + "".join(f"{text.format(row)},{row % 2}\n" for row in range(40))).encode(order))
    assert detect_encoding(path) == (order, None)


def test_zeros_in_text_of_one_byte_a_letter_are_no_wide_encoding(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("".join(f"word{row % 10}\0a\0b,yes\n" for row in range(60)).encode())
    assert detect_encoding(path)[0] == "utf-8"


# ---- rows of more than one kind, columns without names ------------------------------------------------


def test_zstandard(tmp_path: Path) -> None:
    content = lines_of([{"said": text, "mood": mood} for text, mood in zip(TEXTS, MOODS, strict=True)]).encode()
    for name in ("x.jsonl.zst", "x.jsonl"):
        with pa.CompressedOutputStream(str(tmp_path / name), "zstd") as file:
            file.write(content)
        found = find_rows(DataConfig(path=str(tmp_path / name)), None)
        assert list(found.raw.splits["train"]["said"][:]) == TEXTS
    path = tmp_path / "x.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or cut compressed file"):
        find_rows(DataConfig(path=str(path)), None)


def test_a_question_answers_and_a_letter_without_names(find) -> None:
    rows = [
        [f"How many strings has instrument {row}?", f"{row}", f"{row + 1}", f"no {row}", "ABC"[row % 3]]
        for row in range(NUM_ROWS)
    ]
    found = find("x.csv", pd.DataFrame(rows).to_csv(index=False, header=False))
    assert found.task.name == "multiple_choice"
    columns = [(choice.role, choice.column) for choice in found.choices]
    assert columns == [
        ("question", "column_1"), ("choices", "column_2"), ("choices", "column_3"), ("choices", "column_4"),
        ("label", "column_5"),
    ]  # fmt: skip


def test_a_second_row_of_options_below_questions(find) -> None:
    head = ["Answer", "Sent", "Which of these do you play?", "", "What else?"]
    options = ["", "", "Drum", "Flute", "Open answer"]
    rows = [
        [5000 + row, f"05/{row % 28 + 1:02}/2021", "Drum" * (row % 2), "Flute" * (row % 3 > 0), text]
        for row, text in enumerate(TEXTS)
    ]
    found = find("x.csv", pd.DataFrame([head, options, *rows]).to_csv(index=False, header=False))
    assert list(found.raw.splits["train"]["What else?"][:]) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "way_out"),
    [
        ("x.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "git lfs pull"),
        ("x.sql", "/* made */\nSET NAMES utf8;\nINSERT INTO `r` VALUES (1,'a tune');\n", "Load it into a database"),
        ("x.js", "window.YTD.like.part1 = [ {\n", "Delete what stands before"),
        ("x.rdata", "RDX3", "in R"),
    ],
)
def test_what_is_no_table_is_named_with_a_way_out(find, name: str, content: str, way_out: str) -> None:
    with pytest.raises(InputError, match=way_out):
        find(name, content)


def test_annotations_of_brat_are_told_of(tmp_path: Path) -> None:
    for row in range(3):
        (tmp_path / f"d{row}.txt").write_text("Ann plays.\n")
        (tmp_path / f"d{row}.ann").write_text("T1\tPerson 0 3\tAnn\n")
    with pytest.raises(InputError, match=r"(?s)brat.*\"entities\""):
        find_rows(DataConfig(path=str(tmp_path)), None)


def test_a_readme_between_words_is_no_data(tmp_path: Path) -> None:
    for name in ("tunes.pos", "tunes.neg"):
        (tmp_path / name).write_text("".join(f"{name} {text}\n" for text in TEXTS))
    (tmp_path / "tunes-data.README.1.1.txt").write_text("hello\n")
    assert len(find_rows(DataConfig(path=str(tmp_path)), None).raw.splits["train"]) == 2 * NUM_ROWS


@pytest.mark.parametrize("names", [("Context", "Response"), ("questions", "answers")])
def test_questions_and_answers_by_other_names(find, names: tuple[str, str]) -> None:
    frame = pd.DataFrame(zip([f"why is {text}?" for text in TEXTS], TEXTS, strict=True), columns=names)
    found = find("x.csv", frame.to_csv(index=False))
    assert roles_of(found) == {"prompt": names[0], "completion": names[1]}


def test_a_question_is_read_with_its_passage(find) -> None:
    rows = [
        {"question": f"is {row} in tune", "title": f"Song {row}", "passage": text, "answer": row % 2 == 0}
        for row, text in enumerate(TEXTS)
    ]
    assert roles_of(find("x.jsonl", lines_of(rows))) == {"text": "question", "text_pair": "passage", "label": "answer"}


def test_a_text_within_a_record_of_a_column_file(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"note": [{"id": row, "body": text} for row, text in enumerate(TEXTS)], "mood": MOODS}), path
    )
    found = find_rows(DataConfig(path=str(path)), None)
    assert roles_of(found) == {"text": "note.body", "label": "mood"}
    pairs = [{"en": text, "de": text.title()} for text in TEXTS]
    pq.write_table(pa.table({"translation": pairs}), path)
    assert find_rows(DataConfig(path=str(path)), None).task.name == "seq2seq"


def labelbox(row: int, form: str) -> dict[str, Any]:
    if form == "old":
        asked = {"title": "Mood", "answer": {"title": MOODS[row], "value": MOODS[row]}}
        label = {"objects": [], "classifications": [asked]}
        return {"ID": f"k{row}", "Labeled Data": TEXTS[row], "Label": label, "Seconds to Label": 2.5}
    asked = {"name": "Mood", "radio_answer": {"name": MOODS[row], "value": MOODS[row]}}
    labels = [{"label_kind": "Default", "annotations": {"objects": [], "classifications": [asked]}}]
    return {"data_row": {"id": f"d{row}", "row_data": TEXTS[row]}, "projects": {"p1": {"name": "x", "labels": labels}}}


@pytest.mark.parametrize("form", ["old", "new"])
def test_labelbox(find, form: str) -> None:
    found = find("x.ndjson", lines_of([labelbox(row, form) for row in range(NUM_ROWS)]))
    assert roles_of(found) == {"text": "text", "label": "Mood"}
    assert labels_of(found) == ("cross", "glad")


def test_spans_of_labelbox(find) -> None:
    objects = [{"title": "player", "data": {"location": {"start": 4, "end": 7}}}]
    rows = [{"Labeled Data": text, "Label": {"objects": objects, "classifications": []}} for text in TEXTS]
    assert find("x.json", json.dumps(rows)).task.name == "token_classification"
