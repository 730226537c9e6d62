"""Rows made of training rows: labels and places stay true, seeds decide, and no made row is judged on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tunesmith.data import DataConfig, prepare
from tunesmith.data.augmentation import AugmentConfig
from tunesmith.data.augmentation.edited_rows import edited_row
from tunesmith.data.augmentation.edits import Edit, applied, moved
from tunesmith.data.augmentation.lexicon import cilin_synonyms, read_lexicon, wordnet_synonyms
from tunesmith.data.augmentation.noise import Noise
from tunesmith.data.augmentation.synonyms import Synonyms
from tunesmith.run.rows import find_rows
from tunesmith.types import InputError

LEXICON = {"film": ["movie", "motion picture"], "good": ["fine"], "酒店": ["旅馆"]}


def test_edits_move_what_stands_behind_them() -> None:
    edits = [Edit(0, 3, "A"), Edit(8, 8, "new ")]
    assert applied("the old film", edits) == "A old new film"
    assert [moved(place, edits) for place in (4, 8)] == [2, 10]


def test_noise_changes_a_share_of_the_words_and_nothing_that_is_kept() -> None:
    text = "several different words stand around Berlin in this sentence about nothing"
    place = text.index("Berlin")
    for seed in range(30):
        edits = Noise(0.3)(text, [(place, place + 6)], Random(seed))
        assert len(edits) == 3
        changed = applied(text, edits)
        assert "Berlin" in changed
        assert len(changed.split()) == len(text.split())
        assert all(one[0] == other[0] for one, other in zip(text.split(), changed.split(), strict=True))


def test_chinese_characters_become_others_that_sound_alike() -> None:
    text = "他的房子在那里"
    changed = applied(text, Noise(1.0)(text, (), Random(0)))
    assert changed != text
    assert len(changed) == len(text)


def test_synonyms_keep_case_and_number() -> None:
    way = Synonyms(LEXICON, 1.0, single_words=True)
    assert (
        applied("Good films at this 酒店", way("Good films at this 酒店", (), Random(0))) == "Fine movies at this 旅馆"
    )
    assert way("nothing is known here", (), Random(0)) == []


def test_tags_and_entities_stay_with_their_tokens() -> None:
    tokens = ["Yesterday", "Angela", "Merkel", "visited", "several", "wonderful", "places"]
    tags = ["O", "B-PER", "I-PER", "O", "O", "O", "O"]
    text = " ".join(tokens)
    starts = [text.index(token) for token in tokens]
    row = {"text": text, "tokens": tokens, "starts": starts, "tags": tags}
    for seed in range(20):
        made = edited_row(row, ["text"], Noise(0.5), Random(seed))
        assert made is not None
        assert made["tags"] == tags
        assert made["tokens"][1:3] == ["Angela", "Merkel"]
        assert made["tokens"] != tokens
        found = [
            made["text"][start : start + len(token)]
            for start, token in zip(made["starts"], made["tokens"], strict=True)
        ]
        assert found == made["tokens"]


def test_answers_are_found_where_they_stand_afterwards() -> None:
    context = "A good film was shown in Berlin, and another good film in Paris last winter."
    row = {
        "context": context,
        "question": "Where was the other film?",
        "answers": [{"text": "Paris", "start": context.index("Paris")}],
    }
    made = edited_row(
        row, ["context", "question"], Synonyms({"good": ["very fine"], "film": ["motion picture"]}, 1.0), Random(0)
    )
    assert made is not None
    (answer,) = made["answers"]
    assert made["context"][answer["start"] :].startswith("Paris")
    assert made["context"] == context.replace("good", "very fine").replace("film", "motion picture")


def _rows(path: Path, number: int = 60) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(
            [f"the review number {row} praises several wonderful actors", "ab"[row % 2]] for row in range(number)
        )
    return path


def _prepared(**data: Any) -> Any:
    found = find_rows(DataConfig(**data), None)
    return prepare(found.raw, found.data, found.choices, found.form)


def test_training_rows_alone_are_made_more_and_the_split_stays(tmp_path: Path) -> None:
    path = str(_rows(tmp_path / "a.csv"))
    plain, more = _prepared(path=path), _prepared(path=path, augment=AugmentConfig(by=("noise",), factor=2.5))
    again = _prepared(path=path, augment=AugmentConfig(by=("noise",), factor=2.5, seed=1))
    for split in ("validation", "test"):
        assert more.hashes[split] == plain.hashes[split]
    before, after = plain.splits["train"], more.splits["train"]
    assert after[: len(before)] == before[: len(before)]
    assert 2.2 * len(before) < len(after) < 2.8 * len(before)
    assert len(set(after["text"])) == len(after)
    labels = dict(zip(before["row"], before["label"], strict=True))
    assert all(labels[place.split(" ")[0]] == label for place, label in zip(after["row"], after["label"], strict=True))
    assert more.hashes["train"] not in (plain.hashes["train"], again.hashes["train"])
    assert set(again.splits["train"]["text"]) != set(after["text"])
    assert any("made of" in problem.message for problem in more.problems)


def test_groups_of_made_rows_are_those_of_their_sources(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "film"])
        writer.writerows(
            [f"the review number {row} praises actors", "ab"[row % 2], f"f{row % 15}"] for row in range(60)
        )
    more = _prepared(path=str(path), group="film", augment=AugmentConfig(factor=2))
    groups, rows = more.groups("train"), more.splits["train"]
    assert groups is not None
    assert len(groups) == len(rows)
    by_place = dict(zip(rows["row"], groups.tolist(), strict=True))
    assert all(by_place[place.split(" ")[0]] == group for place, group in by_place.items())


def test_made_rows_of_a_file_follow_their_source_to_train_on_and_nowhere_else(tmp_path: Path) -> None:
    plain = _rows(tmp_path / "a.csv")
    with plain.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path / "more.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "made_from", "made_by"])
        for number, row in enumerate(rows):
            writer.writerow([row["text"], row["label"], f"a.csv:{number + 2}", ""])
            writer.writerow([row["text"] + " too", row["label"], f"a.csv:{number + 2}", "noise"])
    before, after = _prepared(path=str(plain)), _prepared(path=str(path))
    for split in ("validation", "test"):
        assert set(after.splits[split]["text"]) == set(before.splits[split]["text"])
    trained = set(before.splits["train"]["text"])
    assert set(after.splits["train"]["text"]) == trained | {f"{text} too" for text in trained}
    assert after.left_out["made of rows that are not trained on"] == 60 - len(trained)


def test_augmentation_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("unheard\tunknown\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"none of .* training rows changes"):
        _prepared(path=str(_rows(tmp_path / "a.csv")), augment=AugmentConfig(by=("synonyms",), lexicon=str(lexicon)))


def test_conversations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    turns = [
        {"messages": [{"role": "user", "content": f"q {row}"}, {"role": "assistant", "content": "a"}]}
        for row in range(30)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in turns), encoding="utf-8")
    with pytest.raises(InputError, match="conversations"):
        _prepared(path=str(path), augment=AugmentConfig())


def test_lexicons_are_read_and_their_mistakes_named(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# mine\nFilm\tmovie, picture\n酒店\t旅馆、宾馆\n", encoding="utf-8")
    assert read_lexicon(file) == {"film": ["movie", "picture"], "酒店": ["旅馆", "宾馆"]}
    file.write_text("film movie\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"words\.txt:1 is no entry"):
        read_lexicon(file)


def test_wordnet_gives_the_words_of_the_commonest_sense(tmp_path: Path) -> None:
    (tmp_path / "index.sense").write_text(
        "bank%1:17:01:: 00000100 1 25\nbank%1:14:00:: 00000200 2 20\n"
        "film%1:10:00:: 00000300 1 30\nfilm%1:06:01:: 00000100 2 2\n",
        encoding="utf-8",
    )
    (tmp_path / "data.noun").write_text(
        "  1 licence\n00000100 17 n 01 bank 0 000 | slope\n00000200 14 n 02 bank 0 depository 0 000 | money\n"
        "00000300 10 n 03 film 0 movie 0 moving_picture 0 000 | a form\n",
        encoding="utf-8",
    )
    for name in ("data.verb", "data.adj", "data.adv"):
        (tmp_path / name).write_text("", encoding="utf-8")
    assert dict(wordnet_synonyms(tmp_path)) == {"film": ["movie", "moving picture"]}, "bank has two meanings as common"


def test_the_chinese_thesaurus_gives_words_of_one_meaning(tmp_path: Path) -> None:
    file = tmp_path / "cilin.txt"
    file.write_text(
        "Aa01A01= 酒店 旅馆 宾馆\nAa01A02= 东西 货色\nAa01A03# 老虎 狮子\nAa01A04= 东西 物件\n", encoding="utf-8"
    )
    assert dict(cilin_synonyms(file)) == {"酒店": ["旅馆", "宾馆"], "旅馆": ["酒店", "宾馆"], "宾馆": ["酒店", "旅馆"]}


def test_the_number_of_made_rows_is_drawn_by_content_alone() -> None:
    from tunesmith.data.augmentation.made_rows import how_many

    rows = [{"text": f"row {number}", "row": f"a:{number}"} for number in range(2000)]
    numbers = [how_many(row, 1.25, 0) for row in rows]
    assert np.mean(numbers) == pytest.approx(0.25, abs=0.04)
    assert numbers == [how_many({**row, "row": "elsewhere"}, 1.25, 0) for row in rows]
