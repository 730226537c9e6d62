"""Exact match and F1 of answers taken from a text, beside SQuAD's own evaluation script."""

from __future__ import annotations

import collections
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.metrics.spans import compare_answer, segments, span_metrics


def normalize_answer(text: str) -> str:
    """As ``evaluate-v2.0.py`` of SQuAD has it."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text).split())


def official(answer: str, truths: list[str]) -> tuple[float, float]:
    """Return what ``get_raw_scores`` of SQuAD's script gives for one question."""
    golds = [truth for truth in truths if normalize_answer(truth)] or [""]
    return max(exact(gold, answer) for gold in golds), max(f1(gold, answer) for gold in golds)


def exact(gold: str, answer: str) -> float:
    return float(normalize_answer(gold) == normalize_answer(answer))


def f1(gold: str, answer: str) -> float:
    gold_tokens, tokens = (normalize_answer(text).split() if text else [] for text in (gold, answer))
    if not gold_tokens or not tokens:
        return float(gold_tokens == tokens)
    same = sum((collections.Counter(gold_tokens) & collections.Counter(tokens)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(tokens), same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


CASES = [
    ("the Normans", ["Normans"], 1.0, 1.0),
    ("10th century", ["the first half of the 10th century", "10th"], 0.0, 2 / 3),
    ("Denmark, Iceland and Norway", ["Denmark Iceland, and  norway."], 1.0, 1.0),
    ("$3 million", ["3 million"], 1.0, 1.0),
    ("", [], 1.0, 1.0),
    ("", ["France"], 0.0, 0.0),
    ("France", [], 0.0, 0.0),
    ("France", ["the"], 0.0, 0.0),  # a truth of nothing but an article is none
    ("a", ["an"], 1.0, 1.0),
    ("theatre", ["the atre"], 0.0, 0.0),
    ("Rollo Rollo", ["Rollo"], 0.0, 2 / 3),
    ("“quoted”", ["quoted"], 0.0, 0.0),  # the script leaves other punctuation than ASCII's
]


@pytest.mark.parametrize(("answer", "truths", "exact", "f1"), CASES)
def test_answers_are_compared_as_squad_does(answer: str, truths: list[str], exact: float, f1: float) -> None:
    assert compare_answer(answer, truths) == pytest.approx((exact, f1))
    assert official(answer, truths) == pytest.approx((exact, f1))


words = st.lists(
    st.sampled_from(["the", "a", "The", "cat,", "cat", "-", "dog", "é", "42", "its", "it's", ""]), max_size=5
)


@given(words, st.lists(words, max_size=3))
def test_any_answers_are_compared_as_squad_does(answer: list[str], truths: list[list[str]]) -> None:
    given, wanted = " ".join(answer), [" ".join(truth) for truth in truths]
    assert compare_answer(given, wanted) == pytest.approx(official(given, wanted))


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "f1"),
    [
        ("308分", "308 分", 1.0, 1.0),
        ("《红楼梦》。", "红楼梦", 1.0, 1.0),
        ("北京大学", "北京", 0.0, 2 / 3),
        ("NFL 联盟", "nfl联盟", 1.0, 1.0),
        ("上海", "海上", 0.0, 1.0),
    ],
)
def test_each_chinese_character_is_a_word(answer: str, truth: str, exact: float, f1: float) -> None:
    assert compare_answer(answer, [truth]) == pytest.approx((exact, f1))
    assert segments("国家橄榄球联盟 (NFL)，共 24 次") == [*"国家橄榄球联盟", "nfl", "共", "24", "次"]


def test_means_are_weighted_and_of_both_kinds_of_rows() -> None:
    exact, f1 = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.5, 1.0, 0.0])
    is_answerable = np.array([True, True, False, False])
    found = span_metrics(exact, f1, is_answerable, np.array([[1.0, 1, 1, 1], [0, 2, 2, 0], [1, 1, 0, 0]]))
    np.testing.assert_allclose(found["f1"], [0.625, 0.75, 0.75])
    np.testing.assert_allclose(found["exact_match"], [0.5, 0.5, 0.5])
    np.testing.assert_allclose(found["answerable_f1"], [0.75, 0.5, 0.75])
    np.testing.assert_allclose(found["unanswerable_accuracy"], [0.5, 1.0, np.nan])
