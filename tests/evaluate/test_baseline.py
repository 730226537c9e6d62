from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tunesmith.evaluate import baseline, tfidf
from tunesmith.evaluate.tfidf import has_unspaced_text
from tunesmith.tasks import Classification, Regression

GOOD = ["a lovely film", "what a lovely day", "lovely and warm", "a warm good film", "good, so good"]
BAD = ["an awful film", "what an awful day", "awful and cold", "a cold bad film", "bad, so bad"]


def measured(task, found, columns: dict) -> dict[str, float]:
    weights = np.ones((1, len(columns["text"])))
    return {name: float(v[0]) for name, v in task.measure(found.outputs, task.targets(columns), weights).items()}


def test_words_are_learned() -> None:
    train = {"text": GOOD + BAD, "label": ["good"] * 5 + ["bad"] * 5}
    test = {"text": ["lovely", "so awful", "warm", "cold"], "label": ["good", "bad", "good", "bad"]}
    task = Classification().bind(train)
    found = baseline(task, train, test, seed=0)
    assert found is not None
    assert found.name == "TF-IDF of words + logistic regression"
    assert measured(task, found, test)["accuracy"] == 1.0
    assert found.num_parameters > 10
    assert found.num_rows == 10
    again = baseline(task, train, test, seed=0)
    np.testing.assert_array_equal(again.outputs["scores"], found.outputs["scores"])


def test_chinese_is_counted_by_characters() -> None:
    train = {
        "text": ["房间很干净", "服务太差了", "非常干净舒服", "实在太差", "很舒服的房间", "差劲的服务"],
        "label": [1, 0] * 3,
    }
    test = {"text": ["干净", "太差"], "label": [1, 0]}
    task = Classification().bind(train)
    found = baseline(task, train, test, seed=0)
    assert "characters" in found.name
    assert measured(task, found, test)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("texts", "unspaced"),
    [
        (["the cat sat", "on the mat"], False),
        (["房间很干净", "不错"], True),
        (["部屋はきれいです", "とてもよかった"], True),
        (["방이 아주 깨끗해요", "서비스가 좋아요"], False),
        (["ห้องสะอาดมาก", "บริการดี"], True),
        (["ein Donaudampfschifffahrtskapitän", "kommt und geht"], False),
        (["jones", "smith", "müller"], True),
        (["!!!", "", "123"], True),
        (["I 很 like 北京 very much indeed my friend"], False),
    ],
)
def test_words_or_characters(texts: list[str], unspaced: bool) -> None:
    assert has_unspaced_text(texts) is unspaced


def test_many_labels_and_labels_without_rows() -> None:
    names = [f"label{k:02}" for k in range(20)]
    train = {"text": [f"word{k} and more" for k in range(20)] * 4, "label": names * 4}
    task = Classification(labels=(*names, "never")).bind(train)
    test = {"text": ["word3", "word17"], "label": ["label03", "label17"]}
    found = baseline(task, train, test, seed=0)
    assert measured(task, found, test)["accuracy"] == 1.0
    probabilities = task.probabilities(found.outputs)
    assert probabilities.shape == (2, 21)
    assert probabilities[:, -1].max() < 1e-6


def test_several_labels() -> None:
    label = [["good", "any"]] * 5 + [["bad", "any"]] * 5
    train = {"text": (GOOD + BAD) * 2, "label": label * 2}
    task = Classification().bind(train)
    test = {"text": ["lovely", "awful"], "label": [["good", "any"], ["bad", "any"]]}
    found = baseline(task, train, test, seed=0)
    assert measured(task, found, test)["accuracy"] == 1.0


@pytest.mark.parametrize("text", ["", "!!!", "?"])
def test_texts_without_words(text: str) -> None:
    train = {"text": [text] * 4, "label": ["a", "b", "a", "b"]}
    task = Classification().bind(train)
    found = baseline(task, train, {"text": [text, "new words"], "label": ["a", "b"]}, seed=0)
    assert np.isfinite(found.outputs["scores"]).all()


def test_pairs_are_compared() -> None:
    random = np.random.default_rng(0)
    words = [f"word{k}" for k in range(40)]
    texts = [" ".join(random.choice(words, 5)) for _ in range(300)]
    same = random.random(300) < 0.5
    pairs = [text if equal else str(random.choice(texts)) for text, equal in zip(texts, same, strict=True)]
    number = [4.0 if equal else 1.0 for equal in same]
    for task, label in ((Classification(), ["yes" if equal else "no" for equal in same]), (Regression(), number)):
        columns = {"text": texts, "text_pair": pairs, "label": label}
        train = {name: values[:250] for name, values in columns.items()}
        test = {name: values[250:] for name, values in columns.items()}
        bound = task.bind(train)
        scores = measured(bound, baseline(bound, train, test, seed=0), test)
        assert scores.get("accuracy", scores.get("pearson")) > 0.9


def test_regression_answers_in_the_users_units() -> None:
    train = {"text": GOOD * 4 + BAD * 4, "label": [500.0] * 20 + [100.0] * 20}
    task = Regression(standardize=True).bind(train)
    test = {"text": ["lovely", "awful"], "label": [500.0, 100.0]}
    found = baseline(task, train, test, seed=0)
    assert found.name == "TF-IDF of words + ridge regression"
    first, second = found.outputs["value"]
    assert first > 350
    assert second < 250


def test_large_training_sets_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfidf, "MAX_TRAIN_ROWS", 8)
    train = {"text": (GOOD + BAD) * 3, "label": (["good"] * 5 + ["bad"] * 5) * 3}
    task = Classification().bind(train)
    assert baseline(task, train, {"text": ["lovely"], "label": ["good"]}, seed=0).num_rows == 8


@pytest.mark.slow
def test_real_intents_are_learned_quickly() -> None:
    folder = os.environ.get("TUNESMITH_TEST_DATA")
    if not folder:
        pytest.skip("TUNESMITH_TEST_DATA is not set: the folder of real data sets")

    def read(name: str) -> dict[str, list[str]]:
        with (Path(folder) / "banking77" / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {"text": [row["text"] for row in rows], "label": [row["category"] for row in rows]}

    train, test = read("train.csv"), read("test.csv")
    task = Classification().bind(train)
    began = time.perf_counter()
    found = baseline(task, train, test, seed=0)
    assert time.perf_counter() - began < 30  # 3 s on an idle machine
    assert measured(task, found, test)["accuracy"] > 0.88
