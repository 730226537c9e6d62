"""Every metric equals scikit-learn on rows written out as often as they are weighted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tunesmith.metrics import (
    calibration_bins,
    confusion_matrix,
    multi_label_metrics,
    multi_label_per_class,
    single_label_metrics,
    single_label_per_class,
    weighting,
)

SETTINGS = settings(max_examples=30, deadline=None)


def softmax(scores: np.ndarray) -> np.ndarray:
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def some_weights(random: np.random.Generator, num_rows: int, num_replicates: int = 3) -> np.ndarray:
    weights = random.integers(0, 3, (num_replicates, num_rows))
    weights[:, random.integers(num_rows)] += 1  # never nothing
    weights[0] = 1
    return weights.astype(np.float64)


def mean_of_areas(area, positive: np.ndarray, scores: np.ndarray, needs_negatives: bool) -> float:
    values = [
        area(positive[:, k], scores[:, k])
        for k in range(scores.shape[1])
        if positive[:, k].any() and (not needs_negatives or not positive[:, k].all())
    ]
    return float(np.mean(values)) if values else float("nan")


def reference_calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, written out."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    return total / len(truth)


def check_per_class(
    found: dict[str, np.ndarray], replicate: int, scores: tuple, is_true: np.ndarray, is_predicted: np.ndarray
) -> None:
    """Compare with scikit-learn's scores; nothing is known of a class without rows, which it gives 0."""
    num_classes = len(is_true)
    occurs = is_true | is_predicted
    for name, values, known in zip(("precision", "recall", "f1"), scores[:3], (occurs, is_true, occurs), strict=True):
        np.testing.assert_allclose(found[name][replicate], np.where(known, values[:num_classes], np.nan))


def single_label_reference(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "mcc": sk.matthews_corrcoef(truth, predicted) if len(set(truth.tolist())) > 1 else np.nan,
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "log_loss": sk.log_loss(truth, probabilities, labels=range(num_classes)),
        "brier": sk.brier_score_loss(truth, probabilities, labels=range(num_classes)),
        "expected_calibration_error": reference_calibration_error(truth, probabilities),
    }
    for average in ("macro", "micro"):
        p, r, f, _ = sk.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        expected |= {f"{average}_precision": p, f"{average}_recall": r, f"{average}_f1": f}
    onehot = np.eye(num_classes)[truth]
    columns = slice(1, 2) if num_classes == 2 else slice(None)
    expected["roc_auc"] = mean_of_areas(sk.roc_auc_score, onehot[:, columns], probabilities[:, columns], True)
    expected["pr_auc"] = mean_of_areas(sk.average_precision_score, onehot[:, columns], probabilities[:, columns], False)
    return expected


@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    num_rows=st.integers(1, 40),
    num_classes=st.integers(2, 6),
    grain=st.sampled_from([0, 1, 3]),
)
def test_single_label_equals_sklearn(seed: int, num_rows: int, num_classes: int, grain: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, random.integers(1, num_classes + 1), num_rows)  # some classes may be absent
    scores = random.normal(size=(num_rows, num_classes)) * 2
    probabilities = softmax(np.round(scores, grain) if grain < 3 else scores)  # rounding makes ties
    weights = some_weights(random, num_rows)
    found = single_label_metrics(truth, probabilities, weights)
    for replicate, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(num_rows), counts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sklearn warns of absent classes
            expected = single_label_reference(truth[rows], probabilities[rows])
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name][replicate] == pytest.approx(value, abs=1e-10, nan_ok=True), name


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1), num_rows=st.integers(1, 40), num_labels=st.integers(1, 5))
def test_multi_label_equals_sklearn(seed: int, num_rows: int, num_labels: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random((num_rows, num_labels)) < random.random(num_labels)
    probabilities = np.round(random.random((num_rows, num_labels)), random.integers(1, 6))
    weights = some_weights(random, num_rows)
    found = multi_label_metrics(truth, probabilities, 0.4, weights)
    per_class = multi_label_per_class(truth, probabilities > 0.4, weights)
    for replicate, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(num_rows), counts)
        y, p = truth[rows].astype(int), probabilities[rows]
        # One column would look like single-label targets to sklearn; two equal ones score the same.
        wide = (lambda a: np.hstack([a, a])) if num_labels == 1 else (lambda a: a)
        predicted = (p > 0.4).astype(int)
        expected = {
            "accuracy": sk.accuracy_score(wide(y), wide(predicted)),
            "hamming_loss": sk.hamming_loss(wide(y), wide(predicted)),
            "roc_auc": mean_of_areas(sk.roc_auc_score, y, p, True),
            "pr_auc": mean_of_areas(sk.average_precision_score, y, p, False),
        }
        for average in ("macro", "micro"):
            values = sk.precision_recall_fscore_support(wide(y), wide(predicted), average=average, zero_division=0)
            expected |= {
                f"{average}_{name}": value
                for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True)
            }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name][replicate] == pytest.approx(value, abs=1e-10, nan_ok=True), name
        scores = sk.precision_recall_fscore_support(wide(y), wide(predicted), average=None, zero_division=0)
        check_per_class(per_class, replicate, scores, y.any(axis=0), predicted.any(axis=0))


def test_per_class_and_confusion_equal_sklearn() -> None:
    random = np.random.default_rng(3)
    truth, predicted = random.integers(0, 4, 60), random.integers(0, 4, 60)
    weights = some_weights(random, 60)
    found = single_label_per_class(truth, predicted, 5, weights)
    for replicate, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(60), counts)
        values = sk.precision_recall_fscore_support(truth[rows], predicted[rows], labels=range(5), zero_division=0)
        occurs = [np.isin(np.arange(5), classes[rows]) for classes in (truth, predicted)]
        check_per_class(found, replicate, values, *occurs)
    expected = sk.confusion_matrix(truth, predicted, labels=range(5))
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 5), expected)


def test_fractional_weights_are_sample_weights() -> None:
    random = np.random.default_rng(4)
    truth, scores = random.integers(0, 2, 50), np.round(random.random(50), 1)
    weights = random.random((1, 50))
    found = single_label_metrics(truth, np.stack([1 - scores, scores], axis=1), weights)
    sample_weight = weights[0]
    assert found["roc_auc"][0] == pytest.approx(sk.roc_auc_score(truth, scores, sample_weight=sample_weight))
    expected = sk.average_precision_score(truth, scores, sample_weight=sample_weight)
    assert found["pr_auc"][0] == pytest.approx(expected)


def test_blocks_of_replicates_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    truth, probabilities = random.integers(0, 3, 30), softmax(random.normal(size=(30, 3)))
    weights = random.integers(0, 3, (11, 30))
    whole = single_label_metrics(truth, probabilities, weights)
    monkeypatch.setattr(weighting, "MAX_WEIGHTS", 100)
    for name, values in single_label_metrics(truth, probabilities, weights).items():
        assert values.shape == (11,)
        np.testing.assert_allclose(values, whole[name], rtol=1e-12)


def test_bins_hold_their_upper_border() -> None:
    np.testing.assert_array_equal(
        calibration_bins(np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 1.0, np.nan])), [0, 0, 1, 14, 0]
    )


def test_confident_and_wrong_is_finite() -> None:
    found = single_label_metrics(np.array([0]), np.array([[0.0, 1.0]]), np.ones((1, 1)))
    assert np.isfinite(found["log_loss"][0])


@pytest.mark.parametrize("shape", [(2, 4), (5,)])
def test_wrong_weights_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        single_label_metrics(np.zeros(5, dtype=np.int64), np.full((5, 2), 0.5), np.ones(shape))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        single_label_metrics(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), np.ones((1, 0)))
