"""Questions with answers in a text, in every form that people write them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.data import prepare
from tunesmith.data.answer_places import Answer, Span, place_answers, read_answers
from tunesmith.data.config import DataConfig
from tunesmith.data.records import PreparedData
from tunesmith.run.rows import find_rows
from tunesmith.types import InputError

CONTEXTS = [f"In {1900 + i} the poet Ada number {i} wrote her book in the town of Berlin." for i in range(12)]


def questions(i: int) -> list[dict[str, Any]]:
    who = {"id": f"who{i}", "question": f"Who wrote in {1900 + i}?"}
    when = {"id": f"when{i}", "question": f"When was book {i} burnt?", "is_impossible": True}
    name = f"Ada number {i}"
    return [
        who | {"answers": [{"text": name, "answer_start": CONTEXTS[i].index("Ada")}], "is_impossible": False},
        when | {"answers": [], "plausible_answers": [{"text": str(1900 + i), "answer_start": 3}]},
    ]


def squad() -> dict[str, Any]:
    paragraphs = [{"context": context, "qas": questions(i)} for i, context in enumerate(CONTEXTS)]
    return {
        "version": "v2.0",
        "data": [{"title": "A", "paragraphs": paragraphs[:5]}, {"title": "B", "paragraphs": paragraphs[5:]}],
    }


def flat() -> list[dict[str, Any]]:
    return [
        {"context": context, "question": one["question"], "answers": one["answers"], "id": one["id"]}
        for i, context in enumerate(CONTEXTS)
        for one in questions(i)
    ]


def lists(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the ``datasets`` library has it."""
    texts, starts = [one["text"] for one in row["answers"]], [one["answer_start"] for one in row["answers"]]
    return row | {"answers": {"text": texts, "answer_start": starts}}


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv(rows: list[list[str]]) -> str:
    return "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def cells(row: dict[str, Any]) -> list[str]:
    text, start = (row["answers"][0]["text"], row["answers"][0]["answer_start"]) if row["answers"] else ("", "")
    return [row["context"], row["question"], text, str(start)]


MRQA = [
    {
        "context": context,
        "qas": [one | {"answers": [given["text"] for given in one["answers"]]} for one in questions(i)],
    }
    for i, context in enumerate(CONTEXTS)
]
FILES: dict[str, str] = {
    "squad.json": json.dumps(squad()),
    "pretty.json": json.dumps(squad(), indent=1),
    "articles.jsonl": jsonl(squad()["data"]),
    "mrqa.jsonl": jsonl(MRQA),
    "flat.jsonl": jsonl(flat()),
    "lists.jsonl": jsonl([lists(row) for row in flat()]),
    "texts.jsonl": jsonl([row | {"answers": [one["text"] for one in row["answers"]]} for row in flat()]),
    "starts.csv": csv([["context", "question", "answer", "answer_start"], *map(cells, flat())]),
    "plain.csv": csv([["passage", "query", "answer_text"], *(cells(row)[:3] for row in flat())]),
    "python.csv": csv(
        [["context", "question", "answers"], *([*cells(row)[:2], str(lists(row)["answers"])] for row in flat())]
    ),
    "pandas.csv": csv(
        [["context", "question", "answers"]]
        + [
            [
                *cells(row)[:2],
                "{{'text': array({text!r}, dtype=object), 'answer_start': array({answer_start})}}".format(
                    **lists(row)["answers"]
                ),
            ]
            for row in flat()
        ]
    ),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def prepared(path: Path, **settings: Any) -> PreparedData:
    found = find_rows(DataConfig(path=str(path), **settings), None)
    assert found.task.name == "question_answering"
    return prepare(found.raw, found.data.changed(group=None), found.choices, found.form)


def rows_of(data: PreparedData) -> dict[str, list[dict[str, Any]]]:
    return {row["question"]: row["answers"] for split in data.splits.values() for row in split}


EXPECTED = {
    one["question"]: [{"text": a["text"], "start": a["answer_start"]} for a in one["answers"]]
    for i in range(len(CONTEXTS))
    for one in questions(i)
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    assert rows_of(prepared(path)) == EXPECTED


def test_columns_of_structs_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([lists(row) for row in flat()]), tmp_path / "x.parquet")
    assert rows_of(prepared(tmp_path / "x.parquet")) == EXPECTED


def test_questions_are_named_by_file_line_and_key(tmp_path: Path) -> None:
    wrong = squad()
    wrong["data"][1]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "nobody at all", "answer_start": 3}]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(wrong), encoding="utf-8")
    data = prepared(path)
    assert len(rows_of(data)) == len(EXPECTED) - 1
    (problem,) = [one for one in data.problems if one.severity == "warning" and "cannot be used" in one.message]
    assert problem.rows == ("squad.json:2#who5",)
    assert "nobody at all" in problem.message
    assert "none of their answers stands in the context" in problem.message
    assert data.left_out == {"answers that are not in the context": 1}
    with pytest.raises(InputError, match="none of their answers"):
        prepared(path, bad_rows="refuse")


def test_many_answers_elsewhere_are_refused_with_ways_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    free = [row | {"answers": "It was someone else"} if i % 3 else row for i, row in enumerate(flat())]
    path.write_text(
        jsonl(
            [
                {**row, "answers": row["answers"] or ""}
                if isinstance(row["answers"], list) and not row["answers"]
                else row
                for row in free
            ]
        ),
        encoding="utf-8",
    )
    with pytest.raises(InputError) as caught:
        prepared(path)
    (problem,) = caught.value.problems
    assert "16 of 24 rows" in problem.message
    assert "--task causal_lm" in problem.message
    assert "data.bad_rows quarantine" in problem.fix


def test_places_that_are_wrong_are_mended_and_counted(tmp_path: Path) -> None:
    rows = flat()
    rows[0]["answers"][0]["answer_start"] += 1  # beside its place
    rows[2]["answers"] = [{"text": "ada  NUMBER 1", "answer_start": -1}]  # without a place, written otherwise
    rows[4]["answers"] = [{"text": "the", "answer_start": None}]  # without a place, at two
    path = tmp_path / "x.jsonl"
    path.write_text(jsonl(rows), encoding="utf-8")
    data = prepared(path)
    found = rows_of(data)
    assert found[rows[0]["question"]] == EXPECTED[rows[0]["question"]]
    assert found[rows[2]["question"]] == [{"text": "Ada number 1", "start": 17}]
    assert [one["start"] for one in found[rows[4]["question"]]] == [
        i for i in range(60) if CONTEXTS[2][i : i + 4] == "the "
    ]
    said = " ".join(problem.message for problem in data.problems)
    assert "1 row have an answer that does not stand where" in said
    assert "1 row have an answer without a place that stands at several" in said
    assert "but for case or white space" in said
    assert "12 rows of 24 have no answer" in said
    with pytest.raises(InputError, match="does not stand where its answer_start says"):
        prepared(path, bad_rows="refuse")


def test_answers_are_found_where_they_stand() -> None:
    context = "In 1990 and 19 and 2019, Ångström  met ada."
    assert place_answers(context, [Answer("19")]).spans == (Span(12, 14),)  # a whole word before parts of others
    assert place_answers(context, [Answer("99")]).spans == (Span(4, 6),)
    assert place_answers(context, [Answer(" 1990 ", 2)]).spans == (Span(3, 7),)
    assert place_answers(context, [Answer("ångström met", 3)]).spans == (Span(25, 38),)
    assert place_answers("黑豹队的防守只丢了 308分", [Answer("防守")]).spans == (Span(4, 6),)
    both = place_answers(context, [Answer("Ada"), Answer("Bob"), Answer("ada", 39)])
    assert both.spans == (Span(39, 42),)
    assert both.num_absent == 1


def test_cells_that_are_no_answers_are_told_from_those_that_are_empty() -> None:
    for empty in (None, "", "  ", [], "[]", float("nan"), {"text": [], "answer_start": []}):
        assert read_answers(empty) == []
    for wrong in ({"words": "x"}, '[{"label": 3}]', {"text": ["a", "b"], "answer_start": [1]}):
        assert read_answers(wrong) is None
    assert read_answers(["a", "b"], [1]) is None
    assert read_answers("a", "here") is None
    assert read_answers(1066, 4) == [Answer("1066", 4)]
