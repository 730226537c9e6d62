"""Questions with choices, in every form that people write them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import prepare
from tunesmith.data.choice_rows import Options, read_options, which
from tunesmith.data.config import DataConfig
from tunesmith.data.records import PreparedData
from tunesmith.run.rows import find_rows
from tunesmith.types import InputError

NOUNS = ("stone", "water", "fire", "wood", "cloud")
ROWS = [
    (f"Which one is number {i}?", [f"the {NOUNS[(i + k) % 5]} {k}" for k in range(2 + i % 3)], (i * 7) % (2 + i % 3))
    for i in range(24)
]
EXPECTED = {question: (choices, label) for question, choices, label in ROWS}


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(names: str, rows: list[list[Any]]) -> str:
    return names + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def padded(choices: list[str]) -> list[str]:
    return [*choices, "", "", ""][:4]


FILES: dict[str, str] = {
    "numbers.jsonl": jsonl([{"question": q, "choices": c, "label": n} for q, c, n in ROWS]),
    "letters.jsonl": jsonl([{"question": q, "options": c, "answer": "ABCD"[n]} for q, c, n in ROWS]),
    "from_one.jsonl": jsonl([{"question": q, "choices": c, "answer": str(n + 1)} for q, c, n in ROWS]),
    "words.jsonl": jsonl([{"question": q, "choices": c, "answer": c[n]} for q, c, n in ROWS]),
    "arc.jsonl": jsonl(
        [
            {
                "id": f"x{i}",
                "question": q,
                "choices": {"text": c, "label": list("1234" if i % 4 == 0 else "ABCD")[: len(c)]},
                "answerKey": ("1234" if i % 4 == 0 else "ABCD")[n],
            }
            for i, (q, c, n) in enumerate(ROWS)
        ]
    ),
    "objects.jsonl": jsonl(
        [
            {"question": q, "choices": [{"key": f"k{k}", "text": t} for k, t in enumerate(c)], "answer": f"k{n}"}
            for q, c, n in ROWS
        ]
    ),
    "by_key.jsonl": jsonl(
        [{"question": q, "options": dict(zip("ABCD", c, strict=False)), "answer": "ABCD"[n]} for q, c, n in ROWS]
    ),
    "columns.csv": table("question,A,B,C,D,answer", [[q, *padded(c), "ABCD"[n]] for q, c, n in ROWS]),
    "endings.csv": table("sent2,ending0,ending1,ending2,ending3,label", [[q, *padded(c), n] for q, c, n in ROWS]),
    "choice1.csv": table("premise,choice1,choice2,choice3,choice4,label", [[q, *padded(c), n + 1] for q, c, n in ROWS]),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def prepared(path: Path, **settings: Any) -> PreparedData:
    found = find_rows(DataConfig(path=str(path), **settings), None)
    assert found.task.name == "multiple_choice"
    return prepare(found.raw, found.data, found.choices, found.form)


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    data = prepared(path)
    rows = {row["question"]: (row["choices"], row["label"]) for split in data.splits.values() for row in split}
    assert rows == EXPECTED
    assert data.guesses[0].explained == 24


def test_rows_without_a_choice_to_make_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": q, "choices": c, "label": n} for q, c, n in ROWS * 3]
    for i, row in enumerate(rows):
        row["question"] += f" {i}"
    rows[3]["choices"], rows[4]["label"], rows[5]["choices"] = ["only one"], 9, ["same", "same"]
    path = tmp_path / "x.jsonl"
    path.write_text(jsonl(rows), encoding="utf-8")
    data = prepared(path)
    said = {
        problem.message.split("(")[1][:24]: problem.rows
        for problem in data.problems
        if "cannot be used" in problem.message
    }
    assert said == {
        "they have fewer than two": ("x.jsonl:4",),
        "two of their choices are": ("x.jsonl:6",),
        "their label names none o": ("x.jsonl:5",),
    }
    with pytest.raises(InputError, match="fewer than two choices"):
        prepared(path, bad_rows="refuse")


def test_cells_are_read_as_choices() -> None:
    assert read_options({"c": "['a', 'b']"}, ["c"]) == Options(("a", "b"))
    assert read_options({"c": '{"A": "a", "B": "b"}'}, ["c"]) == Options(("a", "b"), ("A", "B"))
    assert read_options({"c": [1, 2.0, True]}, ["c"]) == Options(("1", "2", "true"))
    for wrong in ("a text", ["one"], [["a"], ["b"]], ["a", ""], None):
        assert read_options({"c": wrong}, ["c"]) is None
    options = Options(("1", "0"))
    assert [which(options, 1, reading) for reading in ("from 0", "from 1", "texts")] == [1, 0, 0]
    assert which(options, "b", "letters") == 1
    assert which(options, "c", "letters") is None
    assert which(options, None, "texts") is None
