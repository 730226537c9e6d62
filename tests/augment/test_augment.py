"""``tunesmith augment``: a file with more rows, whose places still hold, and which trains as it should."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunesmith.augment import AugmentOptions, augment_file, augmenting
from tunesmith.cli.application import run
from tunesmith.data import DataConfig, prepare
from tunesmith.run.rows import find_rows
from tunesmith.types import InputError


def _table(path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review", "stars"])
        writer.writerows(
            [row, f'a "rather" wonderful picture, number {row} of many', "good" if row % 2 else "bad"]
            for row in range(40)
        )
    return path


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_keep_their_columns_and_are_followed_by_those_made_of_them(tmp_path: Path) -> None:
    path, target = _table(tmp_path / "a.csv"), tmp_path / "more.csv"
    assert run(["augment", str(path), "--by", "noise", "--factor", "3", "--output", str(target), "--quiet"]) == 0
    rows = _read(target)
    assert list(rows[0]) == ["id", "review", "stars", "made_from", "made_by"]
    assert len(rows) == 120
    for number, row in enumerate(_read(path)):
        own, *made = rows[3 * number : 3 * number + 3]
        assert own == {**row, "made_from": f"a.csv:{number + 2}", "made_by": ""}
        assert all({**one, "review": row["review"], "made_by": ""} == own for one in made)
        assert len({one["review"] for one in (own, *made)}) == 3
    found = find_rows(DataConfig(path=str(target)), None)
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert "made" not in " ".join(choice.column for choice in found.choices)
    assert len(prepared.splits["train"]) == 3 * (40 - len(prepared.splits["validation"]) - len(prepared.splits["test"]))


def test_tagged_tokens_become_lines_that_are_read_with_the_same_entities(tmp_path: Path) -> None:
    path, target = tmp_path / "a.conll", tmp_path / "more.jsonl"
    sentence = "Yesterday O\nAngela B-PER\nMerkel I-PER\nvisited O\n{} O\nwonderful O\nplaces O\n\n"
    path.write_text("".join(sentence.format(f"several{row}") for row in range(30)), encoding="utf-8")
    augmented = augment_file(DataConfig(path=str(path)), None, AugmentOptions(("noise",)), target)
    assert augmented.made == {"noise": 30}
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert all(row["tokens"][1:3] == ["Angela", "Merkel"] and len(row["tokens"]) == len(row["tags"]) for row in rows)
    assert find_rows(DataConfig(path=str(target)), None).task.name == "token_classification"


def test_answers_are_written_with_their_new_places(tmp_path: Path) -> None:
    path, target = tmp_path / "a.json", tmp_path / "more.json"
    context = "The wonderful exhibition was opened in Berlin and afterwards travelled to several other places."
    rows = [
        {
            "context": f"{context} ({row})",
            "question": "Where was it opened?",
            "answers": {"text": ["Berlin"], "answer_start": [context.index("Berlin")]},
        }
        for row in range(20)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    augment_file(DataConfig(path=str(path)), None, AugmentOptions(("noise",), share=0.4), target)
    made = json.loads(target.read_text(encoding="utf-8"))
    assert len(made) == 40
    for row in made:
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert row["context"][start : start + len(text)] == text == "Berlin"


def test_texts_written_anew_take_their_turns_and_equal_ones_make_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rewriter(_: str, folders: Sequence[str], __: int) -> augmenting.Rewriter:
        assert list(folders) == ["there", "back"]
        return lambda texts: [text.upper() if "number 7" in text else f"once more: {text}" for text in texts]

    monkeypatch.setattr(augmenting, "rewriter_of", rewriter)
    options = AugmentOptions(("back-translation", "noise"), through=("there", "back"))
    augmented = augment_file(DataConfig(path=str(_table(tmp_path / "a.csv"))), None, options, tmp_path / "b.csv")
    assert sum(augmented.made.values()) == 40
    assert all(8 < number < 32 for number in augmented.made.values())
    rows = _read(tmp_path / "b.csv")
    assert all(row["review"].startswith("once more: ") == (row["made_by"] == "back-translation") for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (AugmentOptions(("spelling",)), "there is no such way"),
        (AugmentOptions(("noise",), factor=1), "makes no rows"),
        (AugmentOptions(("noise",), through=("a",)), "none of --by writes through runs"),
        (AugmentOptions(("back-translation",), through=("a",)), "two runs, there and back"),
        (AugmentOptions(("synonyms",), lexicon="nowhere.txt"), "does not exist"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, options: AugmentOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        augment_file(DataConfig(path=str(_table(tmp_path / "a.csv"))), None, options, tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()


def test_a_file_that_has_made_rows_or_is_there_already_is_refused(tmp_path: Path) -> None:
    path, target = _table(tmp_path / "a.csv"), tmp_path / "more.csv"
    augment_file(DataConfig(path=str(path)), None, AugmentOptions(("noise",)), target)
    with pytest.raises(InputError, match="exists already"):
        augment_file(DataConfig(path=str(path)), None, AugmentOptions(("noise",)), target)
    with pytest.raises(InputError, match="made rows already"):
        augment_file(DataConfig(path=str(target)), None, AugmentOptions(("noise",)), tmp_path / "c.csv")
