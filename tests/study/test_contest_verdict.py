"""What a contest says in the end: its verdict, and what to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tunesmith.evaluate import Comparison, Entrant, Terms, compare, may_be_best, pairs_with
from tunesmith.study.contest_statistics import Question
from tunesmith.study.contest_verdict import choice_of, verdict_of
from tunesmith.tasks import Classification

ROWS = 1000
SECONDS = {"full": 100.0, "lora": 60.0, "ia3": 95.0, "tfidf": 1.0}
Values = Mapping[str, Sequence[float]]


def question(*, higher: bool = True) -> Question:
    return Question(
        task=Classification(),
        metric="accuracy" if higher else "loss",
        higher=higher,
        tuned_by="accuracy",
        tuned_higher=True,
        reference="full",
        margin=None,
        num_rows={"train": 100, "validation": 100, "test": ROWS},
        groups=None,
        rival="tfidf",
        confidence=0.95,
        seed=0,
    )


def entrants(values: Values, spread: float) -> list[Entrant]:
    """Return methods with the values of their seeds; each resample of the rows moves a method by about ``spread``."""
    random = np.random.default_rng(0)
    return [
        Entrant(
            name, tuple(range(len(own))), np.array(own), np.array(own)[:, None] + spread * random.normal(size=(1, 500))
        )
        for name, own in values.items()
    ]


def said(values: Values, *, spread: float = 0.001, higher: bool = True) -> tuple[str, dict[str, Any]]:
    """Return the verdict of a contest whose runs had these values, and what it says to take."""
    asked, margin = question(higher=higher), 0.01
    found = entrants(values, spread)
    methods = [
        {
            "name": one.name,
            "title": "TF-IDF" if one.name == "tfidf" else one.name,
            "state": "done",
            "mean": one.mean,
            "low": one.mean - 0.1,
            "high": one.mean + 0.1,
            "seconds": SECONDS[one.name],
            "learning_rate": None if one.name == "tfidf" else 0.001,
            "seeds": len(one.seeds),
        }
        for one in found
    ]

    terms = Terms(ROWS, margin=margin, higher_is_better=higher)

    def beside(reference: str) -> list[Comparison]:
        return compare(found, pairs_with(reference, found), terms)

    best = (max if higher else min)(found, key=lambda one: one.mean).name
    beside_best = sorted(beside(best), key=lambda one: -one.difference if higher else one.difference)
    candidates = [best, *may_be_best(beside_best, terms)]
    choice = choice_of(methods, [asdict(one) for one in beside_best], candidates, asked, margin)
    assert choice is not None
    return verdict_of(methods, [asdict(one) for one in beside("full")], asked, margin), choice


def test_the_best_of_all_is_taken() -> None:
    values = {"full": [0.80, 0.801, 0.799], "lora": [0.90, 0.902, 0.901], "ia3": [0.85, 0.851, 0.849]}
    verdict, choice = said(values)
    assert verdict.startswith("lora is better than full by 10.1 points")
    assert choice["method"] == "lora"
    assert choice["candidates"] == ["lora"]
    assert choice["reason"] == "Take lora: the best of all (accuracy 0.901)."


def test_what_is_as_good_and_takes_less_time_is_taken() -> None:
    values = {"full": [0.901, 0.902, 0.903], "lora": [0.901, 0.902, 0.900], "ia3": [0.8995, 0.9, 0.901]}
    verdict, choice = said(values)
    assert verdict.startswith("lora is as good as full within 1 point")
    assert choice["method"] == "lora"
    assert choice["reason"] == (
        "Take lora: as good as full, which came out best, within 1 point, in 0.60 times its training time."
    )


def test_who_may_be_better_is_named() -> None:
    values = {"full": [0.87, 0.89, 0.91], "lora": [0.86, 0.90, 0.91], "ia3": [0.70, 0.72, 0.71], "tfidf": [0.65] * 3}
    verdict, choice = said(values)
    assert "undecided" in verdict
    assert choice["method"] == "full"
    assert set(choice["candidates"]) == {"full", "lora"}
    assert choice["reason"] == "Take full: it came out best (accuracy 0.890), and only lora may be better."
    _, all_alike = said(values, spread=0.2)
    assert len(all_alike["candidates"]) == 4
    assert all_alike["reason"].endswith("though any of the others may be better.")


def test_a_rival_that_nothing_is_trained_for_may_be_what_to_take() -> None:
    verdict, choice = said({"full": [0.60, 0.61, 0.62], "lora": [0.6, 0.62, 0.61], "tfidf": [0.8] * 3})
    assert verdict.startswith("TF-IDF is better than full")
    assert choice["method"] == "tfidf"
    assert choice["reason"].startswith("Take TF-IDF: the best of all")


def test_less_may_be_better_and_one_seed_speaks_of_models() -> None:
    _, choice = said({"full": [0.9], "lora": [0.4], "ia3": [0.7]}, higher=False)
    assert choice["method"] == "lora"
    assert choice["candidates"] == ["lora"]
    assert choice["reason"] == "Take this model of lora: the best of all (loss 0.400)."


def test_without_a_mean_there_is_nothing_to_take() -> None:
    assert choice_of([], [], [], question(), 0.01) is None


@pytest.mark.parametrize("number", [2, 10])
def test_more_others_rule_out_less(number: int) -> None:
    """One just ruled out beside a single other one is not where there are ten."""
    found = entrants({"best": [0.900, 0.901, 0.902], "next": [0.893, 0.898, 0.8945]}, 0.0001)
    terms = Terms(ROWS)
    (alone,) = compare(found, [("next", "best")], terms)
    assert may_be_best([alone], terms) == []
    assert may_be_best([alone] * number, terms) == ([] if number == 2 else ["next"] * number)
