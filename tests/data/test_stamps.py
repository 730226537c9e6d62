"""Columns that say when, where and by whom are neither texts nor labels; stars are labels as good as names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tunesmith.data import DataConfig
from tunesmith.data.stamps import are_stamps, is_stamp
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.types import InputError

NUM_ROWS = 40
TEXTS = [
    f"the {('oven', 'kettle', 'fridge')[row % 3]} no. {row} hums at night and nobody comes" for row in range(NUM_ROWS)
]
MOODS = [("glad", "cross")[row % 2] for row in range(NUM_ROWS)]

STAMPS = [
    "2023-05-01", "1.5.2023", "05/01/23", "2023/5/1 8:30", "2023-05-01T08:30:00Z", "2023-05-01 08:30:00.123456+02:00",
    "May 1, 2023", "1 May 2023", "Mon May 01 08:30:00 UTC 2023", "Monday, 1st of May 2023 at 8:30 PM", "01-Mai-2023",
    "2023年5月1日", "2023年5月1日 上午8时30分", "08:30", "12/31/2023, 11:59 PM", "14 août 2022",
    "https://a.org/b?c=d", "www.a.org", "ann.b+c@mail.example.com", "10.0.0.1",
]  # fmt: skip
NO_STAMPS = [
    "", "May", "may be 3 of them", "12", "3.5", "in 2023 we ate", "see https://a.org/b", "Monday", "C++", "4/5",
    "v1.2", "ann at mail", "8:30 is too late", "10-20 people", "一二三", "march 2 miles",
]  # fmt: skip


@pytest.mark.parametrize("text", STAMPS)
def test_dates_times_and_addresses(text: str) -> None:
    assert is_stamp(text)


@pytest.mark.parametrize("text", NO_STAMPS)
def test_words_and_numbers_are_none(text: str) -> None:
    assert not is_stamp(text)


def test_a_few_other_cells_make_no_difference() -> None:
    assert are_stamps([*STAMPS * 3, "unknown"])
    assert not are_stamps([*STAMPS, *NO_STAMPS])
    assert not are_stamps([])


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., FoundRows]:
    def run(**columns: list[object]) -> FoundRows:
        pd.DataFrame(columns).to_csv(tmp_path / "x.csv", index=False)
        return find_rows(DataConfig(path=str(tmp_path / "x.csv")), None)

    return run


def roles_of(found: FoundRows) -> dict[str, str]:
    return {choice.role: choice.column for choice in found.choices}


@pytest.mark.parametrize(
    "when",
    [
        [f"{row % 28 + 1:02}.03.2021" for row in range(NUM_ROWS)],
        [f"{row % 5 + 1} June 2021" for row in range(NUM_ROWS)],
        [f"https://a.org/{row % 4}" for row in range(NUM_ROWS)],
        [1_600_000_000 + 1000 * row for row in range(NUM_ROWS)],
        [1_600_000_000_123 + 77 * row for row in range(NUM_ROWS)],
    ],
    ids=["days", "few days", "addresses", "seconds", "thousandths"],
)
def test_stamps_are_neither_texts_nor_labels(find, when: list[object]) -> None:
    assert roles_of(find(logged=when, said=TEXTS, mood=MOODS)) == {"text": "said", "label": "mood"}
    assert find(logged=when, said=TEXTS).task.name == "causal_lm"
    found = find(logged=when, said=TEXTS, mood=MOODS)
    assert {one.column: one.reason for one in found.unused} == {"logged": "it only says when or where"}


def test_who_names_a_label_so_means_it(find) -> None:
    days = [f"{row % 5 + 1}.6.2021" for row in range(NUM_ROWS)]
    assert roles_of(find(said=TEXTS, label=days)) == {"text": "said", "label": "label"}


def test_stars_beside_names_are_a_question(find) -> None:
    grades = [row % 5 + 1 for row in range(NUM_ROWS)]
    assert roles_of(find(said=TEXTS, points=grades))["label"] == "points"
    assert roles_of(find(said=TEXTS, points=[row * 3 % 50 for row in range(NUM_ROWS)], mood=MOODS))["label"] == "mood"
    with pytest.raises(InputError, match=r"(?s)'mood': 2 distinct values.*'points': whole numbers from 1 to 5"):
        find(said=TEXTS, points=grades, mood=MOODS)


def test_stars_among_several_names_are_a_question_too(find) -> None:
    shops = [f"shop {'abc'[row % 3]}" for row in range(NUM_ROWS)]
    with pytest.raises(InputError, match=r"(?s)Several columns could fill the role 'label'.*'points'"):
        find(said=TEXTS, points=[float(row % 5 + 1) for row in range(NUM_ROWS)], mood=MOODS, shop=shops)


def test_who_wrote_is_learned_where_nothing_else_is(find) -> None:
    who = [f"{('Ann', 'Bo', 'Cy')[row % 3]}" for row in range(NUM_ROWS)]
    assert roles_of(find(author=who, said=TEXTS))["label"] == "author"
    assert roles_of(find(author=who, said=TEXTS, mood=MOODS))["label"] == "mood"
    assert (
        roles_of(find(user_verified=[row % 2 == 0 for row in range(NUM_ROWS)], said=TEXTS, mood=MOODS))["label"]
        == "mood"
    )


def test_few_long_values_that_come_again_are_labels(find) -> None:
    words = [f"{row % 4 + 1} of 5 stars in all I say" for row in range(NUM_ROWS)]
    assert roles_of(find(said=TEXTS, verdict=words))["label"] == "verdict"


@pytest.mark.parametrize("name", ["Bewertung", "категория", "Catégorie", "overall"])
def test_names_of_labels_in_other_languages(find, name: str) -> None:
    columns = {"said": TEXTS, "other": [f"x{row % 4}" for row in range(NUM_ROWS)], name: MOODS}
    assert roles_of(find(**columns))["label"] == name


def test_a_label_is_not_learned_as_text_where_texts_stand_in_objects(tmp_path: Path) -> None:
    rows = [{"state": MOODS[row], "talk": [{"who": "a", "said": TEXTS[row]}]} for row in range(NUM_ROWS)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"(?s)role 'text'.*within objects \(talk\) is not looked at"):
        find_rows(DataConfig(path=str(tmp_path / "x.jsonl")), None)


def test_lists_without_items_are_empty(tmp_path: Path) -> None:
    rows = [{"said": text, "tags": [], "mood": mood} for text, mood in zip(TEXTS, MOODS, strict=True)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert roles_of(find_rows(DataConfig(path=str(tmp_path / "x.jsonl")), None))["label"] == "mood"


def test_a_title_is_not_all_that_is_read(find) -> None:
    titles = [f"no. {row} again" for row in range(NUM_ROWS)]
    assert roles_of(find(Title=titles, **{"Review Text": TEXTS}, Rating=[row % 5 + 1 for row in range(NUM_ROWS)])) == {
        "text": "Review Text",
        "label": "Rating",
    }


@pytest.mark.parametrize("names", [("phrase_A", "phrase_B"), ("Sentence1", "Sentence2"), ("line a", "line b")])
def test_two_sides_are_a_pair(find, names: tuple[str, str]) -> None:
    other = [text.replace("hums", "roars") for text in TEXTS]
    assert roles_of(find(**{names[0]: TEXTS, names[1]: other, "verdict": MOODS})) == {
        "text": names[0],
        "text_pair": names[1],
        "label": "verdict",
    }


def test_thumbs_are_no_label_beside_stars(find) -> None:
    stars = [row % 5 + 1 for row in range(NUM_ROWS)]
    assert (
        roles_of(find(content=TEXTS, score=stars, thumbsUpCount=[row % 4 for row in range(NUM_ROWS)]))["label"]
        == "score"
    )
