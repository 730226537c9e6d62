"""Public data sets, read from a bare path with no options; skipped where they are not at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunesmith.data import DataConfig, assign_roles, prepare, profile, read
from tunesmith.run.rows import find_rows
from tunesmith.tasks import ImageClassification
from tunesmith.types import Role

FOLDER = os.environ.get("TUNESMITH_TEST_DATA")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="TUNESMITH_TEST_DATA names no folder of public data sets")

TEXTS = (
    Role("text", ("text", "sentence", "review"), ("text", "category")),
    Role("text_pair", ("text_pair", "sentence2"), ("text", "category"), required=False),
)
LABEL = Role("label", ("label", "class", "category"), ("category", "boolean", "list", "integer", "float"))
NUMBER = Role("label", ("label", "score"), ("float", "integer"))


def load(path, *, label=LABEL, **options):
    config = DataConfig(path=str(Path(FOLDER) / path), **options)
    raw = read(config)
    choices, problems = assign_roles(profile(raw.splits["train"]), (*TEXTS, label), {})
    assert not problems
    assert not raw.rejected
    return raw, {choice.role: choice.column for choice in choices}, prepare(raw, config, choices)


def sizes(splits):
    return {name: len(rows) for name, rows in splits.items()}


@pytest.mark.parametrize("path", ["sms_spam", "sms_spam/SMSSpamCollection"])
def test_sms_spam(path):
    raw, columns, data = load(path)
    assert columns == {"text": "column_2", "label": "column_1"}
    assert sizes(raw.splits) == {"train": 5574}
    assert raw.splits["train"]["column_1"][:].count("spam") == 747
    assert set(data.splits["train"]["label"]) == {"ham", "spam"}
    assert set(data.splits) == {"train", "validation", "test"}


def test_sst2_sentences():
    raw, columns, data = load("sst2_sentences")
    assert columns == {"text": "column_1", "label": "column_2"}
    assert sizes(raw.splits) == {"train": 6920, "validation": 872, "test": 1821}
    assert sum(data.splits["test"]["label"]) == 909


def test_banking77():
    raw, columns, data = load("banking77")
    assert columns == {"text": "text", "label": "category"}
    assert sizes(raw.splits) == {"train": 10003, "test": 3080}
    assert len(set(data.splits["validation"]["label"])) == 77
    assert any("categories.json" in problem.message for problem in raw.problems)
    assert any("test rows have a text that also stands in train" in problem.message for problem in data.problems)


def test_chnsenticorp():
    raw, columns, data = load("chnsenticorp")
    assert columns == {"text": "column_1", "label": "column_2"}
    assert sizes(raw.splits) == {"train": 9600, "validation": 1200, "test": 1200}
    assert set(data.splits) == {"train", "validation"}
    assert any("ChnSentiCorp_htl_all.csv.gz" in problem.message for problem in raw.problems)
    (leak,) = [problem for problem in data.problems if "also stands in train" in problem.message]
    assert leak.count > 300
    assert any("The test rows have no column" in problem.message for problem in data.problems)


def test_chnsenticorp_hotels():
    raw, columns, data = load("chnsenticorp/ChnSentiCorp_htl_all.csv.gz")
    assert columns == {"text": "review", "label": "label"}
    assert sizes(raw.splits) == {"train": 7766}
    assert any("1 row without text left out" in problem.message for problem in data.problems)


def test_stsb():
    raw, columns, data = load("stsb", label=NUMBER)
    assert columns == {"text": "column_6", "text_pair": "column_7", "label": "column_5"}
    assert sizes(raw.splits) == {"train": 5749, "validation": 1500, "test": 1379}
    labels = raw.splits["train"]["column_5"][:]
    assert sum(map(float, labels)) / len(labels) == pytest.approx(2.701, abs=0.001)
    assert {problem.count for problem in raw.problems if "more than 7 columns" in problem.message} == {197, 22, 284}
    assert (min(data.splits["train"]["label"]), max(data.splits["train"]["label"])) == (0.0, 5.0)


@pytest.mark.parametrize(
    ("path", "rows", "without"),
    [
        ("squad_v2_cs224n/dev-v2.0.json.gz", 6078, 3168),
        ("xquad/xquad.zh.json.gz", 1190, 0),
        ("xquad/xquad.de.json.gz", 1190, 0),
    ],
)
def test_questions_on_texts(path, rows, without):
    found = find_rows(DataConfig(path=str(Path(FOLDER) / path)), None)
    assert found.task.name == "question_answering"
    assert found.data.group == "context"
    assert sizes(found.raw.splits) == {"train": rows}
    data = prepare(found.raw, found.data, found.choices, found.form)
    assert not [problem for problem in data.problems if "cannot be used" in problem.message]
    assert not [problem for problem in data.problems if "answer_start" in problem.message]
    assert sum(not answers for split in data.splits.values() for answers in split["answers"]) == pytest.approx(
        without, abs=5
    )
    sides = [set(split["context"]) for split in data.splits.values()]
    assert len(sides) == 3
    assert not set.intersection(*sides)
    assert not sides[0] & sides[2]


def test_questions_about_shapes():
    pytest.importorskip("PIL")
    config = DataConfig(path=str(Path(FOLDER) / "easy_vqa"))
    found = find_rows(config, None)
    assert found.task.name == "image_text"
    assert sizes(found.raw.splits) == {"train": 38575, "test": 9673}
    seen = find_rows(config, ImageClassification())
    data = prepare(seen.raw, seen.data, seen.choices, seen.form)
    assert set(data.splits["train"]["label"]) == {"circle", "rectangle", "triangle"}
    assert sizes(data.splits) == {
        "train": 2796,
        "validation": 311,
        "test": 763,
    }  # images that are asked for their shape
