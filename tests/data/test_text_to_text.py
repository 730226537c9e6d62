"""Sources and targets: found by their names, read from every usual form, and what is set aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import DataConfig, prepare, read_for_prediction
from tunesmith.data.text_to_text import TextToText
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.tasks import Seq2Seq
from tunesmith.types import InputError

N = 24
ENGLISH = [f"There are {i} little boats out on the lake, and all of them are blue." for i in range(N)]
GERMAN = [f"Auf dem See sind {i} kleine Boote, und alle davon sind blau." for i in range(N)]


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    return lines(path, [json.dumps(row, ensure_ascii=False) for row in rows])


def found_in(path: Path, task: Seq2Seq | None = None, **settings: Any) -> tuple[FoundRows, Any]:
    config = DataConfig(path=str(path), validation_fraction=0, test_fraction=0, **settings)
    found = find_rows(config, task)
    return found, prepare(found.raw, found.data, found.choices, found.form)


def columns_of(found: FoundRows) -> str:
    return ",".join(choice.column for choice in found.choices)


def rows_of(prepared: Any, split: str = "train") -> list[tuple[str, list[str]]]:
    columns = prepared.splits[split].columns()
    return list(zip(columns["source"], columns["target"], strict=True))


@pytest.mark.parametrize(("folder", "order"), [("wmt_en_de", "en,de"), ("wmt_de_en", "de,en"), ("lake", "de,en")])
def test_parallel_files_are_sides_in_the_order_of_the_folders_name(tmp_path: Path, folder: str, order: str) -> None:
    (tmp_path / folder).mkdir()
    for language, texts in (("en", ENGLISH), ("de", GERMAN)):
        lines(tmp_path / folder / f"train.{language}", texts)
    found, prepared = found_in(tmp_path / folder)
    assert isinstance(found.task, Seq2Seq)
    assert columns_of(found) == order
    sides = (ENGLISH, GERMAN) if order == "en,de" else (GERMAN, ENGLISH)
    assert rows_of(prepared)[3] == (sides[0][3], [sides[1][3]])
    turned, _ = found_in(tmp_path / folder, columns={"source": "en"})
    assert columns_of(turned) == "en,de"


def test_files_of_different_length_are_named_with_their_lines(tmp_path: Path) -> None:
    lines(tmp_path / "train.en", ENGLISH)
    lines(tmp_path / "train.de", GERMAN[:-2])
    with pytest.raises(InputError, match=rf"different numbers of lines: train.de {N - 2}, train.en {N}"):
        found_in(tmp_path)


def test_objects_of_languages_become_columns(tmp_path: Path) -> None:
    rows = [{"id": i, "translation": {"en": ENGLISH[i], "de": GERMAN[i]}} for i in range(N)]
    found, prepared = found_in(jsonl(tmp_path / "rows.jsonl", rows))
    assert columns_of(found) == "en,de"
    assert rows_of(prepared)[5] == (ENGLISH[5], [GERMAN[5]])


def test_objects_that_are_no_translations_stay_what_they_are(tmp_path: Path) -> None:
    rows = [{"source": ENGLISH[i], "target": GERMAN[i], "translation": {"by": "me", "at": "noon"}} for i in range(N)]
    found, _ = found_in(jsonl(tmp_path / "rows.jsonl", rows))
    assert columns_of(found) == "source,target"
    assert "translation" in found.profiles


def test_lists_are_sentences_of_a_source_and_several_targets(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"source": [ENGLISH[i], "It is late."], "target": [GERMAN[i], "Es ist spät."][: 1 + i % 2], "title": f"t{i}"}
        for i in range(N)
    ]
    found, prepared = found_in(jsonl(tmp_path / "rows.jsonl", rows))
    assert columns_of(found) == "source,target"
    assert rows_of(prepared)[:2] == [
        (f"{ENGLISH[0]} It is late.", [GERMAN[0]]),
        (f"{ENGLISH[1]} It is late.", [GERMAN[1], "Es ist spät."]),
    ]
    assert any("12 of 24 rows have several targets" in problem.message for problem in prepared.problems)


def test_several_columns_are_several_targets(tmp_path: Path) -> None:
    rows = [{"document": ENGLISH[i], "one": GERMAN[i], "two": f"Boot {i} ist blau."} for i in range(N)]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    _, prepared = found_in(path, Seq2Seq(), columns={"source": "document", "target": "one,two"})
    assert rows_of(prepared)[4] == (ENGLISH[4], [GERMAN[4], "Boot 4 ist blau."])


def test_a_table_without_names_is_asked_for(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.tsv", [f"{ENGLISH[i]}\t{GERMAN[i]}" for i in range(N)])
    found, prepared = found_in(path, Seq2Seq())
    assert rows_of(prepared)[0] == (ENGLISH[0], [GERMAN[0]])
    assert [choice.reason.partition(";")[0] for choice in found.choices] == [
        "the first of two texts",
        "the second of two texts",
    ]
    three = lines(
        tmp_path / "three.tsv", [f"{ENGLISH[i]}\t{GERMAN[i]}\tby somebody else, number {i}" for i in range(N)]
    )
    with pytest.raises(InputError, match="Several columns could fill the role 'source'"):
        found_in(three, Seq2Seq())
    named, _ = found_in(three, Seq2Seq(), columns={"source": "column_1", "target": "column_2"})
    assert columns_of(named) == "column_1,column_2"


def test_questions_and_answers_are_sides_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{"question": ENGLISH[i], "answer": GERMAN[i]} for i in range(N)]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    assert not isinstance(found_in(path)[0].task, Seq2Seq)
    assert columns_of(found_in(path, Seq2Seq())[0]) == "question,answer"


def test_empty_sides_are_counted_listed_and_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"source": ENGLISH[i], "target": GERMAN[i]} for i in range(N)]
    rows[2]["source"], rows[5]["target"], rows[7]["target"] = "  ", None, []
    path = jsonl(tmp_path / "rows.jsonl", rows)
    _, prepared = found_in(path)
    assert len(prepared.splits["train"]) == N - 3
    said = {problem.message.partition(" rows")[2]: problem.rows for problem in prepared.problems if problem.rows}
    assert ("rows.jsonl:3",) in said.values()
    assert ("rows.jsonl:6", "rows.jsonl:8") in said.values()
    assert prepared.left_out == {"without a source": 1, "without a target": 2}
    with pytest.raises(InputError, match="nothing is there"):
        found_in(path, bad_rows="refuse")


def test_nothing_but_the_source_is_needed_to_predict(tmp_path: Path) -> None:
    rows = [{"source": ENGLISH[i], "target": GERMAN[i]} for i in range(N)]
    found, _ = found_in(jsonl(tmp_path / "rows.jsonl", rows))
    for name, given in (("some.jsonl", [{"source": "one"}, {"source": ""}]), ("text.jsonl", [{"x": "one"}, {"x": ""}])):
        path = jsonl(tmp_path / name, given)
        read = read_for_prediction(str(path), found.choices, found.data, TextToText)
        assert list(read.columns()["source"]) == ["one", ""]
        assert "target" not in read.column_names
