"""Scores of generated answers: equal to those of sacrebleu and rouge-score, on the rows and on every resample."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest

from tunesmith.metrics import answer_metrics, answer_statistics, require_answer_metrics
from tunesmith.metrics.answers import answered_number, is_exact
from tunesmith.types import MissingExtraError

ENGLISH = [
    ("The cat sat on the mat.", "The cat is sitting on the mat."),
    ('It\'s 3.5 degrees, (almost) "warm" & nice', "It is 3.5 degrees: almost warm, and nice."),
    ("", "An answer was wanted here ."),
    ("Exactly the same words in the same order", "Exactly the same words in the same order"),
    ("nothing in common", "Wholly other text, of another length altogether."),
]
CHINESE = [
    ("今天天气很好。", "今天的天气很好，适合散步。"),
    ("我喜欢学习 Python 语言", "我喜欢学习 Python 编程语言"),
    ("不知道", "答案是四十二"),
]


def library_scores(pairs: list[tuple[str, str]], tokenize: str) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    answers, references = [a for a, _ in pairs], [r for _, r in pairs]
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    each = [rouge.score(reference, answer) for answer, reference in pairs]
    return {
        "chrf": CHRF().corpus_score(answers, [references]).score,
        "bleu": BLEU(tokenize=tokenize).corpus_score(answers, [references]).score,
        "rouge_1": float(np.mean([one["rouge1"].fmeasure for one in each])),
        "rouge_2": float(np.mean([one["rouge2"].fmeasure for one in each])),
        "rouge_l": float(np.mean([one["rougeL"].fmeasure for one in each])),
    }


@pytest.mark.parametrize(("pairs", "tokenize"), [(ENGLISH, "13a"), (CHINESE, "zh")])
def test_scores_are_those_of_the_libraries(pairs: list[tuple[str, str]], tokenize: str) -> None:
    statistics = answer_statistics([a for a, _ in pairs], [r for _, r in pairs])
    random = np.random.default_rng(0)
    weights = np.vstack([np.ones(len(pairs)), random.integers(1, 4, (5, len(pairs)))])
    found = answer_metrics(statistics, weights)
    for replicate, counts in enumerate(weights):
        rows = np.repeat(np.arange(len(pairs)), counts.astype(int))
        expected = library_scores([pairs[row] for row in rows], tokenize)
        if tokenize == "zh":  # rouge-score leaves Chinese out
            expected = {name: score for name, score in expected.items() if "rouge" not in name}
        for name, score in expected.items():
            assert found[name][replicate] == pytest.approx(score, abs=1e-9), name


def test_rouge_reads_chinese_by_the_character() -> None:
    found = answer_metrics(answer_statistics(["天气好 ok"], ["天气很好 OK"]), np.ones((1, 1)))
    assert found["rouge_1"][0] == pytest.approx(2 * 4 / (4 + 5))
    assert found["rouge_l"][0] == pytest.approx(2 * 4 / (4 + 5))


def test_rows_without_answer_or_reference_do_not_count() -> None:
    answers: list[str | None] = [None, "yes", "no", "yes"]
    references: list[str | None] = ["yes", "yes", None, "no"]
    statistics = answer_statistics(answers, references)
    assert statistics["given"].tolist() == [False, True, False, True]
    found = answer_metrics(statistics, np.array([[1.0, 1, 1, 1], [1, 0, 1, 0]]))
    assert found["exact_match"][0] == 0.5
    assert all(math.isnan(values[1]) for values in found.values())
    nothing = answer_metrics(answer_statistics([None], ["x"]), np.ones((1, 1)))
    assert all(math.isnan(values[0]) for values in nothing.values())


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("Paris", " paris\n", True),
        ("ｆｕｌｌ width", "full  WIDTH", True),
        ("Paris.", "Paris", False),
        ("so it is 42", "6 * 7\n#### 42", True),
        ("... #### 1,234.0 dollars", "#### 1234", True),
        ("It costs $1,234.50", "#### 1234.5", True),
        (r"thus \boxed{\$1{,}000} and not 3", "#### 1000", True),
        (r"\boxed{\frac{1}{2}", "#### 1", True),
        ("10-5=5, answer: 5.", "#### 5", True),
        ("the answer is -5", "#### -5", True),
        ("from -5 to 7", "#### -5", False),
        ("the answer is 10-5", "#### 5", True),
        ("€ −3", "#### -3", True),
        ("no number", "#### 3", False),
        ("#### none", "#### 3", False),
        ("yes", "#### yes", False),
        ("#### yes", "#### yes", True),
    ],
)
def test_exact_match(answer: str, reference: str, same: bool) -> None:
    assert is_exact(answer, reference) is same


def test_numbers_of_real_answers() -> None:
    assert answered_number("1. first 2. second") == 2
    assert answered_number(".5") is not None
    assert answered_number("") is None


def test_missing_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    for missing, package in (("sacrebleu", "sacrebleu"), ("rouge_score", "rouge-score")):

        def without(name: str, *args: Any, missing: str = missing, **kwargs: Any) -> Any:
            if name.startswith(missing):
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtraError, match=package) as caught:
            require_answer_metrics()
        assert "tunesmith[generation]" in str(caught.value)
