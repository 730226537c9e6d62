"""Every metric, on rows made to hurt: inside its range or undefined, whatever the rounding; JSON without NaN."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.encoded import Ragged
from tunesmith.evaluate import evaluate, interval
from tunesmith.metrics import (
    RANGES,
    Entities,
    answer_metrics,
    answer_statistics,
    entity_metrics,
    entity_metrics_per_kind,
    find_entities,
    language_metrics,
    multi_label_metrics,
    multi_label_per_class,
    regression_metrics,
    single_label_metrics,
    single_label_per_class,
    within_range,
)
from tunesmith.tasks import Classification, Regression, TokenClassification

SETTINGS = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def weights_of(random: np.random.Generator, num_rows: int) -> np.ndarray:
    """Return counts, and shares of every size: sums of shares are what rounds."""
    counts = random.integers(0, 4, (4, num_rows)).astype(np.float64)
    shares = random.random((4, num_rows)) * 10.0 ** random.integers(-6, 7)
    return np.concatenate([np.ones((1, num_rows)), counts, shares])


def check(found: dict[str, np.ndarray]) -> None:
    for name, values in found.items():
        low, high = RANGES[name]
        defined = values[~np.isnan(values)]
        assert (defined >= low).all(), name
        assert (defined <= high).all(), name


@SETTINGS
@given(seed=SEEDS, num_rows=st.integers(1, 60), num_classes=st.integers(2, 7), kind=st.sampled_from("perfect one any"))
def test_classification(seed: int, num_rows: int, num_classes: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    truth = np.zeros(num_rows, dtype=np.int64) if kind == "one" else random.integers(0, num_classes, num_rows)
    scores = random.random((num_rows, num_classes)) ** random.integers(1, 9)
    if kind == "perfect":
        scores += np.eye(num_classes)[truth] * random.choice([2.0, 1e3, 1e300])
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    weights = weights_of(random, num_rows)
    check(single_label_metrics(truth, probabilities, weights))
    check(single_label_per_class(truth, probabilities.argmax(axis=1), num_classes, weights))
    is_true = random.random((num_rows, num_classes)) < random.random(num_classes)
    check(multi_label_metrics(is_true, probabilities, 0.5, weights))
    check(multi_label_per_class(is_true, probabilities > 0.5, weights))


@SETTINGS
@given(seed=SEEDS, num_rows=st.integers(1, 60), scale=st.sampled_from([1e-30, 1e-8, 1.0, 1e15, 1e30]))
def test_regression(seed: int, num_rows: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    truth = np.round(random.normal(size=num_rows), random.integers(0, 3)) * scale
    for predicted in (truth, truth * 3 + scale, -truth, np.full(num_rows, scale), truth * (1 + 1e-15)):
        check(regression_metrics(truth, predicted, weights_of(random, num_rows)))


@SETTINGS
@given(seed=SEEDS, num_rows=st.integers(1, 30), share=st.sampled_from([0.0, 0.2, 1.0]))
def test_entities(seed: int, num_rows: int, share: float) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])

    def some() -> Entities:
        inside = random.random(offsets[-1]) < share
        kinds = np.where(inside, random.integers(0, 3, offsets[-1]), -1)
        return find_entities(kinds, random.random(offsets[-1]) < 0.3, offsets)

    tokens = lengths.astype(np.float64)
    weights = weights_of(random, num_rows)
    truth = some()
    for predicted in (truth, some()):
        check(entity_metrics(truth, predicted, 4, weights, right_N=tokens, tokens_N=tokens))
        check(entity_metrics_per_kind(truth, predicted, 4, num_rows, weights))


@SETTINGS
@given(seed=SEEDS, num_rows=st.integers(1, 40))
def test_language(seed: int, num_rows: int) -> None:
    random = np.random.default_rng(seed)
    tokens = random.integers(0, 5, num_rows).astype(np.float64)
    loss = tokens * random.choice([0.0, -1e-9, 3.0, 1e4])  # a float32 loss of a sure token may come out below 0
    check(language_metrics(loss, tokens, tokens, tokens * 3, weights_of(random, num_rows)))


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=5), seed=SEEDS)
def test_answers(texts: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    for answers in (texts, texts[::-1], [None] * len(texts)):
        check(answer_metrics(answer_statistics(answers, texts), weights_of(random, len(texts))))


def test_every_metric_of_every_task_has_a_range() -> None:
    from tunesmith.tasks import TASKS

    for task in TASKS.values():
        assert set(task().higher_is_better) <= set(RANGES)


def test_only_rounding_is_put_back() -> None:
    values = np.array([1.0000000000000002, -1e-17, 0.5, 1.3, -0.2, np.nan])
    np.testing.assert_array_equal(within_range({"accuracy": values})["accuracy"], [1.0, 0.0, 0.5, 1.3, -0.2, np.nan])
    assert within_range({"seconds": values})["seconds"] is values


@given(
    st.lists(st.floats(0.999999999, 1.0), min_size=1, max_size=9),
    st.floats(0.5, 0.999, exclude_min=True),
)
def test_an_interval_lies_within_what_was_resampled(values: list[float], confidence: float) -> None:
    found = interval(1.0, np.array(values), confidence)
    assert found["low"] is not None
    assert found["high"] is not None
    assert min(values) <= found["low"] <= found["high"] <= max(values)


def test_what_does_not_exist_is_undefined() -> None:
    ones = np.ones((1, 6))
    of_one = single_label_metrics(np.zeros(6, dtype=np.int64), np.eye(3)[[0, 0, 1, 0, 2, 0]], ones)
    assert np.isnan(of_one["mcc"][0])
    assert np.isnan(of_one["roc_auc"][0])
    assert of_one["accuracy"][0] == pytest.approx(4 / 6)
    per_class = single_label_per_class(np.array([0, 0, 1]), np.array([0, 2, 0]), 4, np.ones((1, 3)))
    np.testing.assert_array_equal(per_class["precision"][0], [0.5, 0.0, 0.0, np.nan])
    np.testing.assert_array_equal(per_class["recall"][0], [0.5, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(per_class["f1"][0], [0.5, 0.0, 0.0, np.nan])
    nothing = find_entities(np.full(6, -1), np.zeros(6, dtype=bool), np.arange(7))
    none = entity_metrics(nothing, nothing, 2, ones, right_N=np.ones(6), tokens_N=np.ones(6))
    assert all(np.isnan(none[f"{average}_f1"][0]) for average in ("micro", "macro"))
    assert none["accuracy"][0] == 1.0
    constant = regression_metrics(np.arange(6.0), np.full(6, 2.0), ones)
    assert np.isnan(constant["pearson"][0])
    assert constant["r2"][0] < 0


def test_evaluations_of_odd_rows_are_json() -> None:
    def texts(num_rows: int) -> dict[str, list[str]]:
        return {"text": ["x"] * num_rows}

    one_class = Classification(labels=("a", "b", "c"), multi_label=False)
    scores = np.zeros((5, 3), dtype=np.float32)
    scores[:, 0] = 30.0
    regression = Regression(standardize=False)
    tagging = TokenClassification(labels=("B-X", "I-X", "O"))
    tags = Ragged.from_rows([np.full(2, 2, dtype=np.int64)] * 3)
    outside = np.tile(np.array([0.0, 0.0, 9.0], dtype=np.float32), (6, 1))
    cases = [
        (one_class, {"scores": scores}, {"label": np.zeros(5, dtype=np.int64)}, texts(5)),
        (one_class, {"scores": scores[:1]}, {"label": np.array([2])}, texts(1)),
        (regression, {"value": np.ones(4, dtype=np.float32)}, {"label": np.ones(4, dtype=np.float32)}, texts(4)),
        (
            tagging,
            {"scores": Ragged(outside, tags.offsets)},
            {"tags": tags},
            {**texts(3), "tokens": [["a", "b"]] * 3, "starts": [[0, 1]] * 3},
        ),
    ]
    for task, outputs, targets, columns in cases:
        found = evaluate(task, outputs, targets, seed=0, num_resamples=30, columns=columns)
        json.dumps(found, allow_nan=False)
        for name, one in found["metrics"].items():
            assert one["value"] is None or RANGES[name][0] <= one["value"] <= RANGES[name][1]
