"""What is made of the scores of labels: probabilities, decisions, and the tables and curves of a report.

Shapes: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tunesmith import metrics
from tunesmith.tasks.base import FloatArray

BoolArray = npt.NDArray[np.bool_]

MAX_CURVES = 12
"""With more labels than this only the micro-averaged curves are drawn."""
MAX_MATRIX = 200
"""With more labels than this no confusion matrix is kept."""
SMALLEST = 1e-12
"""The least probability whose logarithm is told from that of 0."""


def softmax(scores_NK: npt.NDArray[np.generic]) -> FloatArray:
    """Return the probabilities of K exclusive labels, in float64."""
    scores = np.asarray(scores_NK, dtype=np.float64)
    exponent_NK = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return cast("FloatArray", exponent_NK / exponent_NK.sum(axis=1, keepdims=True))


def sigmoid(scores_NK: npt.NDArray[np.generic]) -> FloatArray:
    """Return the probability of each of K independent labels, in float64."""
    from scipy.special import expit

    return cast("FloatArray", expit(np.asarray(scores_NK, dtype=np.float64)))


def log_probabilities(probabilities: Any) -> npt.NDArray[np.float32]:
    """Return the scores that have these probabilities of exclusive labels, as far as single precision tells."""
    return np.log(np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, 1.0)).astype(np.float32)


def log_odds(probabilities: Any) -> npt.NDArray[np.float32]:
    """Return the scores that have these probabilities of independent labels."""
    wide = np.asarray(probabilities, dtype=np.float64)
    scores = np.log(np.clip(wide, SMALLEST, 1.0)) - np.log(np.clip(1.0 - wide, SMALLEST, 1.0))
    return scores.astype(np.float32)


def decide(probabilities_NK: FloatArray, threshold: float | FloatArray | None) -> tuple[BoolArray, FloatArray]:
    """Return the chosen labels, boolean [N, K], and the certainty of each row, [N].

    With a threshold, or one for each label, labels are independent: those above it are chosen, and a row is as certain
    as the least certain of its K decisions. Without one the likeliest label is chosen.
    """
    if threshold is None:
        chosen_NK = np.arange(probabilities_NK.shape[1]) == probabilities_NK.argmax(axis=1)[:, None]
        return chosen_NK, probabilities_NK.max(axis=1)
    chosen_NK = probabilities_NK > threshold
    return chosen_NK, np.where(chosen_NK, probabilities_NK, 1.0 - probabilities_NK).min(axis=1)


def best_thresholds(positive_NK: BoolArray, probabilities_NK: FloatArray, usual: float) -> list[float]:
    """Return for each label the threshold above which its F1 is best: of several, the one nearest to the usual one.

    It lies halfway between two probabilities; that of a label which no row has, or all have, is the usual one.
    """
    found = []
    for positive_N, probability_N in zip(positive_NK.T, probabilities_NK.T, strict=True):
        if not positive_N.any() or positive_N.all():
            found.append(usual)
            continue
        order = np.argsort(-probability_N, kind="stable")
        falling_N, num_right_N = probability_N[order], np.cumsum(positive_N[order])
        f1_N = 2 * num_right_N / (np.arange(1, len(order) + 1) + num_right_N[-1])
        cuts_N = (falling_N + np.append(falling_N[1:], 0.0)) / 2  # above it are the first ones up to each place
        is_cut_N = (falling_N > cuts_N) & (cuts_N > 0) & (cuts_N < 1)
        above = int((probability_N > usual).sum())
        f1_C = np.append(f1_N[is_cut_N], f1_N[above - 1] if above else 0.0)
        cuts_C = np.append(cuts_N[is_cut_N], usual)
        best = np.flatnonzero(f1_C == f1_C.max())
        found.append(float(cuts_C[best[np.abs(cuts_C[best] - usual).argmin()]]))
    return found


def report_details(
    labels: Sequence[str], positive_NK: BoolArray, probabilities_NK: FloatArray, threshold: float | FloatArray | None
) -> dict[str, Any]:
    """Return the labels, the support of each, curves and, for exclusive labels, the confusion matrix.

    The calibration of independent labels is that of all N x K decisions.
    """
    if threshold is None:
        chosen_NK, score_N = decide(probabilities_NK, None)
        calibration = metrics.calibration_curve(score_N, positive_NK[chosen_NK])
    else:
        calibration = metrics.calibration_curve(probabilities_NK.ravel(), positive_NK.ravel())
    support = positive_NK.sum(axis=0).tolist()
    curves = _ranking_curves(labels, positive_NK, probabilities_NK, exclusive=threshold is None)
    found: dict[str, Any] = {
        "labels": list(labels),
        "per_label": [{"label": name, "support": rows} for name, rows in zip(labels, support, strict=True)],
        "curves": {**curves, "calibration": calibration},
    }
    if threshold is None and len(labels) <= MAX_MATRIX:
        truth_N, predicted_N = positive_NK.argmax(axis=1), probabilities_NK.argmax(axis=1)
        found["confusion_matrix"] = metrics.confusion_matrix(truth_N, predicted_N, len(labels)).tolist()
    return found


def _ranking_curves(
    labels: Sequence[str], positive_NK: BoolArray, probabilities_NK: FloatArray, *, exclusive: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return a curve for the second of two exclusive labels; else one per label (if few) and the micro-average."""
    num_labels = len(labels)
    columns = [1] if num_labels == 2 and exclusive else range(num_labels) if num_labels <= MAX_CURVES else []
    drawn = [metrics.ranking_curves(labels[k], positive_NK[:, k], probabilities_NK[:, k]) for k in columns]
    if len(columns) != 1:
        drawn.append(metrics.ranking_curves("micro-average", positive_NK.ravel(), probabilities_NK.ravel()))
    pairs = [pair for pair in drawn if pair is not None]
    return {"roc": [roc for roc, _ in pairs], "precision_recall": [precision for _, precision in pairs]}
