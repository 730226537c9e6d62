from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import readable
from tunesmith.types import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.853, "0.853"),
        (1.0, "1.000"),
        (12.5, "12.50"),
        (1961.2, "1,961"),
        (-0.5, "−0.500"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (0.00002, "2e−5"),
        (0.00042, "0.00042"),
        (math.nan, "–"),
        (None, "–"),
        (math.inf, "–"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert readable.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(22_713_986, "22.7M"), (737_858, "738k"), (1_240_000_000, "1.24B"), (999_600, "1.00M"), (512, "512"), (0, "0")],
)
def test_compact(value: float, text: str) -> None:
    assert readable.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1_234_567_890, "1.2 GB"), (90_855_944, "91 MB"), (2_951_432, "3.0 MB"), (12, "12 B")]
)
def test_size(value: float, text: str) -> None:
    assert readable.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.84, "0.84 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 0 s"),
        (92.4, "1 min 32 s"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 4 h"),
        (-1, "–"),
    ],
)
def test_duration(value: float, text: str) -> None:
    assert readable.duration(value) == text


def test_interval_shares_decimals() -> None:
    assert readable.interval(Interval(0.853, 0.8412, 0.8639)) == "0.853 [0.841, 0.864]"
    assert readable.interval(Interval(0.853, math.nan, math.nan)) == "0.853"
    assert readable.interval(None) == "–"


def test_verdict_words() -> None:
    assert readable.judge("accuracy", Interval(0.081, 0.062, 0.1)).sentence == (
        "Better than the baseline by 8.1 points [6.2, 10.0]."
    )
    assert readable.judge("accuracy", Interval(-0.034, -0.046, -0.023)).sentence == (
        "Worse than the baseline by 3.4 points [2.3, 4.6]."
    )
    unclear = readable.judge("accuracy", Interval(0.008, -0.005, 0.021))
    assert unclear.outcome == "unclear"
    assert unclear.sentence == (
        "No clear difference from the baseline: +0.8 points [−0.5, 2.1]; the 95% interval includes 0."
    )
    lower = readable.judge("mae", Interval(-0.121, -0.144, -0.098))
    assert lower.sentence == "Better than the baseline by 0.121 in mean absolute error [0.098, 0.144]."
    percentage = readable.judge("bleu", Interval(4.31, 2.2, 6.4))
    assert percentage.sentence == "Better than the baseline by 4.3 points [2.2, 6.4]."
    itself = readable.judge("perplexity", Interval(0.2, 0.1, 0.3), against=readable.rival_phrase("before fine-tuning"))
    assert itself.sentence == "Worse than before fine-tuning by 0.200 in perplexity [0.100, 0.300]."
    assert readable.rival_phrase("TF-IDF") == "the baseline"
    assert readable.metric_phrase("rouge_l") == "ROUGE-L"
    assert readable.metric_phrase("chrf") == "chrF"


def test_verdict_never_shows_a_win_that_reads_as_zero() -> None:
    verdict = readable.judge("accuracy", Interval(0.01, 0.0002, 0.02))
    assert verdict.outcome == "better"
    assert "[0.02," in verdict.sentence


@given(
    value=st.floats(-1, 1),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    name=st.sampled_from(["accuracy", "macro_f1", "rmse", "log_loss", "pearson"]),
)
def test_no_claim_when_the_interval_includes_zero(value: float, low: float, high: float, name: str) -> None:
    difference = Interval(value, value - low, value + high)
    verdict = readable.judge(name, difference)
    if difference.low <= 0 <= difference.high:
        assert verdict.outcome == "unclear"
        assert "etter" not in verdict.sentence
        assert "orse" not in verdict.sentence
    else:
        gains = difference.low > 0
        assert verdict.outcome == ("better" if gains == readable.is_higher_better(name) else "worse")


@pytest.mark.parametrize(
    ("name", "title", "higher", "fraction"),
    [
        ("macro_f1", "Macro F1", True, True),
        ("f1_macro", "Macro F1", True, True),
        ("roc_auc", "ROC AUC", True, True),
        ("expected_calibration_error", "Calibration error", False, False),
        ("rmse", "Root mean squared error", False, False),
        ("hamming_loss", "Hamming loss", False, False),
        ("mcc", "Matthews correlation", True, False),
        ("perplexity", "Perplexity", False, False),
        ("pseudo_perplexity", "Pseudo-perplexity", False, False),
        ("bits_per_byte", "Bits per byte", False, False),
        ("token_accuracy", "Token accuracy", True, True),
        ("rouge_l", "ROUGE-L", True, True),
        ("chrf", "chrF", True, False),
        ("bleu", "BLEU", True, False),
    ],
)
def test_metric_names(name: str, title: str, higher: bool, fraction: bool) -> None:
    assert readable.metric_title(name) == title
    assert readable.is_higher_better(name) is higher
    assert readable.is_fraction(name) is fraction
    assert readable.is_higher_better(name, {name: not higher}) is not higher
