"""Metrics of single-label and multi-label classification over row-weighted replicates.

Names, conventions for absent classes and the treatment of ties are those of scikit-learn
with ``zero_division=0``, applied to the rows written out as often as they are weighted.

Shapes: N rows, K classes, R replicates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.ranking import areas, macro_areas
from tunesmith.metrics.weighting import (
    BoolArray,
    FloatArray,
    IntArray,
    Metrics,
    group_sums,
    mean_where,
    over_replicates,
    ratio,
)

NUM_CALIBRATION_BINS = 15


def single_label_metrics(truth_N: IntArray, probabilities_NK: FloatArray, weights_RN: npt.ArrayLike) -> Metrics:
    """Return every single-label metric as [R] values; the prediction is the most probable class.

    - ``macro_*``: mean over the classes that occur in the truth or the predictions of the replicate.
    - ``micro_*``: over all classes together, which for one label a row equals the accuracy.
    - ``mcc``: the K-class Matthews correlation (Gorodkin 2004): 0 where every prediction is the same, nan where
      the truth is, since nothing can be told apart then.
    - ``roc_auc``, ``pr_auc``: of class 1 for two classes; else one class against the rest,
      mean over the classes that have both positives and negatives (positives for ``pr_auc``).
    - ``log_loss``: natural logarithm, probabilities clipped to the resolution of float64.
    - ``brier``: squared error of class 1's probability for two classes (0 to 1), else of the
      whole vector (0 to 2).
    - ``expected_calibration_error``: 15 equal-width bins (Guo et al. 2017, eq. 3).
    """
    num_classes = probabilities_NK.shape[1]
    predicted_N = probabilities_NK.argmax(axis=1)
    per_row = _per_row_losses(truth_N, probabilities_NK)
    bins_N, gap_N = _calibration_gap(truth_N, probabilities_NK)

    def compute(weights_NR: FloatArray) -> Metrics:
        total_R = weights_NR.sum(axis=0)
        true_KR, predicted_KR, right_KR = _class_counts(truth_N, predicted_N, num_classes, weights_NR)
        metrics = _count_metrics(true_KR, predicted_KR, right_KR)
        if num_classes == 2:
            roc_R, precision_R = areas(truth_N == 1, probabilities_NK[:, 1], weights_NR)
        else:
            roc_R, precision_R = macro_areas(np.eye(num_classes, dtype=bool)[truth_N], probabilities_NK, weights_NR)
        metrics |= {"roc_auc": roc_R, "pr_auc": precision_R}
        metrics |= {name: ratio(loss_N @ weights_NR, total_R, np.nan) for name, loss_N in per_row.items()}
        gap_BR = group_sums(bins_N, NUM_CALIBRATION_BINS, weights_NR, gap_N)
        metrics["expected_calibration_error"] = ratio(np.abs(gap_BR).sum(axis=0), total_R, np.nan)
        return metrics

    return over_replicates(compute, weights_RN, len(truth_N))


def single_label_per_class(
    truth_N: IntArray, predicted_N: IntArray, num_classes: int, weights_RN: npt.ArrayLike
) -> Metrics:
    """Return ``precision``, ``recall`` and ``f1`` of every class, [R, K] each.

    A class that is never predicted has precision 0. Nothing can be said, nan, of the recall of a class that the
    truth lacks, nor of anything of one that the predictions lack, too.
    """

    def compute(weights_NR: FloatArray) -> Metrics:
        return _defined_per_class(*_class_counts(truth_N, predicted_N, num_classes, weights_NR))

    return over_replicates(compute, weights_RN, len(truth_N))


def multi_label_metrics(
    truth_NK: BoolArray, probabilities_NK: FloatArray, threshold: float | FloatArray, weights_RN: npt.ArrayLike
) -> Metrics:
    """Return every multi-label metric as [R] values; a label is predicted above ``threshold``.

    ``accuracy`` is the share of rows whose whole set of labels is right; macro means are
    over all labels; areas are means over the labels that have one in the replicate.
    """
    predicted_NK = probabilities_NK > threshold
    wrong_NK = predicted_NK != truth_NK
    exact_N = (~wrong_NK.any(axis=1)).astype(np.float64)
    wrong_share_N = wrong_NK.mean(axis=1)

    def compute(weights_NR: FloatArray) -> Metrics:
        total_R = weights_NR.sum(axis=0)
        true_KR, predicted_KR, right_KR = _label_counts(truth_NK, predicted_NK, weights_NR)
        per_label = _per_class(true_KR, predicted_KR, right_KR)
        micro = _per_class(*(counts.sum(axis=0, keepdims=True) for counts in (true_KR, predicted_KR, right_KR)))
        roc_R, precision_R = macro_areas(truth_NK, probabilities_NK, weights_NR)
        return (
            {"accuracy": ratio(exact_N @ weights_NR, total_R, np.nan)}
            | {f"macro_{name}": values_RK.mean(axis=1) for name, values_RK in per_label.items()}
            | {f"micro_{name}": values_R1[:, 0] for name, values_R1 in micro.items()}
            | {"roc_auc": roc_R, "pr_auc": precision_R}
            | {"hamming_loss": ratio(wrong_share_N @ weights_NR, total_R, np.nan)}
        )

    return over_replicates(compute, weights_RN, len(truth_NK))


def multi_label_per_class(truth_NK: BoolArray, predicted_NK: BoolArray, weights_RN: npt.ArrayLike) -> Metrics:
    """Return ``precision``, ``recall`` and ``f1`` of every label, [R, K] each; undefined as for single labels."""

    def compute(weights_NR: FloatArray) -> Metrics:
        return _defined_per_class(*_label_counts(truth_NK, predicted_NK, weights_NR))

    return over_replicates(compute, weights_RN, len(truth_NK))


def confusion_matrix(truth_N: IntArray, predicted_N: IntArray, num_classes: int) -> IntArray:
    """Return [K, K] counts: rows are the truth, columns the predictions."""
    pairs = np.bincount(truth_N * num_classes + predicted_N, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).astype(np.int64)


def calibration_bins(confidence_N: FloatArray) -> IntArray:
    """Return each row's bin: bin m holds confidences in (m / M, (m + 1) / M], and 0 (and nan) goes to the first."""
    bins = np.ceil(np.nan_to_num(confidence_N) * NUM_CALIBRATION_BINS).astype(np.int64) - 1
    return np.clip(bins, 0, NUM_CALIBRATION_BINS - 1)


def _per_row_losses(truth_N: IntArray, probabilities_NK: FloatArray) -> dict[str, FloatArray]:
    rows = np.arange(len(truth_N))
    epsilon = np.finfo(np.float64).eps
    of_truth_N = probabilities_NK[rows, truth_N]
    if probabilities_NK.shape[1] == 2:
        brier_N = (1.0 - of_truth_N) ** 2
    else:
        brier_N = (probabilities_NK**2).sum(axis=1) - of_truth_N**2 + (1.0 - of_truth_N) ** 2
    return {"log_loss": -np.log(np.clip(of_truth_N, epsilon, 1.0 - epsilon)), "brier": brier_N}


def _calibration_gap(truth_N: IntArray, probabilities_NK: FloatArray) -> tuple[IntArray, FloatArray]:
    confidence_N = probabilities_NK.max(axis=1)
    right_N = (probabilities_NK.argmax(axis=1) == truth_N).astype(np.float64)
    return calibration_bins(confidence_N), right_N - confidence_N


def _class_counts(
    truth_N: IntArray, predicted_N: IntArray, num_classes: int, weights_NR: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the weight of each class in the truth, in the predictions, and in both at once, [K, R] each."""
    right_N = np.where(truth_N == predicted_N, truth_N, -1)
    return (
        group_sums(truth_N, num_classes, weights_NR),
        group_sums(predicted_N, num_classes, weights_NR),
        group_sums(right_N, num_classes, weights_NR),
    )


def _label_counts(
    truth_NK: BoolArray, predicted_NK: BoolArray, weights_NR: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    true_KN, predicted_KN = truth_NK.T.astype(np.float64), predicted_NK.T.astype(np.float64)
    return true_KN @ weights_NR, predicted_KN @ weights_NR, (true_KN * predicted_KN) @ weights_NR


def _per_class(true_KR: FloatArray, predicted_KR: FloatArray, right_KR: FloatArray) -> Metrics:
    return {
        "precision": ratio(right_KR, predicted_KR).T,
        "recall": ratio(right_KR, true_KR).T,
        "f1": ratio(2.0 * right_KR, true_KR + predicted_KR).T,
    }


def _defined_per_class(true_KR: FloatArray, predicted_KR: FloatArray, right_KR: FloatArray) -> Metrics:
    """Return what ``_per_class`` does, nan where there is nothing to measure: for tables, not for means."""
    is_true_RK = true_KR.T > 0
    occurs_RK = is_true_RK | (predicted_KR.T > 0)
    needs = {"precision": occurs_RK, "recall": is_true_RK, "f1": occurs_RK}
    found = _per_class(true_KR, predicted_KR, right_KR)
    return {name: np.where(needs[name], values_RK, np.nan) for name, values_RK in found.items()}


def _count_metrics(true_KR: FloatArray, predicted_KR: FloatArray, right_KR: FloatArray) -> Metrics:
    total_R, right_R = true_KR.sum(axis=0), right_KR.sum(axis=0)
    accuracy_R = ratio(right_R, total_R, np.nan)
    per_class = _per_class(true_KR, predicted_KR, right_KR)
    present_KR = (true_KR > 0) | (predicted_KR > 0)
    metrics = {"accuracy": accuracy_R}
    for name, values_RK in per_class.items():
        metrics[f"macro_{name}"] = mean_where(values_RK.T, present_KR)
        metrics[f"micro_{name}"] = accuracy_R.copy()
    spread_true_R = total_R**2 - (true_KR**2).sum(axis=0)
    spread_predicted_R = total_R**2 - (predicted_KR**2).sum(axis=0)
    shared_R = right_R * total_R - (true_KR * predicted_KR).sum(axis=0)
    matthews_R = ratio(shared_R, np.sqrt(spread_true_R) * np.sqrt(spread_predicted_R))
    metrics["mcc"] = np.where((true_KR > 0).sum(axis=0) > 1, matthews_R, np.nan)
    metrics["balanced_accuracy"] = mean_where(per_class["recall"].T, true_KR > 0)
    return metrics
