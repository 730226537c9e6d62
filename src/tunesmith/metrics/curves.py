"""ROC, precision-recall and calibration curves, thinned for drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.classification import NUM_CALIBRATION_BINS, calibration_bins
from tunesmith.metrics.ranking import areas
from tunesmith.metrics.weighting import BoolArray, FloatArray

MAX_POINTS = 200


def ranking_curves(
    label: str, positive_N: BoolArray, scores_N: FloatArray
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the ROC and the precision-recall curve, each ``{"label", "points", "area"}``.

    Points are [false positive rate, true positive rate] and [recall, precision], at most
    200 of them, evenly spaced along the curve; the areas are those of all points. None when
    the rows are all positive or all negative.
    """
    num_positive = int(positive_N.sum())
    num_negative = len(positive_N) - num_positive
    if not num_positive or not num_negative:
        return None
    order = np.argsort(-scores_N, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores_N[order])), len(order) - 1)
    found = np.cumsum(positive_N[order])[last_of_tie].astype(np.float64)
    chosen = last_of_tie + 1.0
    recall, precision = found / num_positive, found / chosen
    false_rate = (chosen - found) / num_negative
    roc_area, average_precision = areas(positive_N, scores_N, np.ones((len(positive_N), 1)))
    return (
        {
            "label": label,
            "points": _points(np.append(0.0, false_rate), np.append(0.0, recall)),
            "area": float(roc_area[0]),
        },
        {
            "label": label,
            "points": _points(np.append(0.0, recall), np.append(precision[0], precision)),
            "area": float(average_precision[0]),
        },
    )


def calibration_curve(confidence_N: FloatArray, right_N: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return the non-empty bins of the reliability diagram: mean confidence, share right, rows."""
    bins_N = calibration_bins(confidence_N)
    counts = np.bincount(bins_N, minlength=NUM_CALIBRATION_BINS)
    confidence = np.bincount(bins_N, weights=confidence_N, minlength=NUM_CALIBRATION_BINS)
    right = np.bincount(bins_N, weights=right_N, minlength=NUM_CALIBRATION_BINS)
    return [
        {
            "low": m / NUM_CALIBRATION_BINS,
            "high": (m + 1) / NUM_CALIBRATION_BINS,
            "confidence": float(confidence[m] / counts[m]),
            "accuracy": float(right[m] / counts[m]),
            "count": int(counts[m]),
        }
        for m in range(NUM_CALIBRATION_BINS)
        if counts[m]
    ]


def _points(x: FloatArray, y: FloatArray) -> list[list[float]]:
    """Thin a curve to ``MAX_POINTS``, evenly by the way travelled, keeping both ends."""
    if len(x) > MAX_POINTS:
        travelled = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
        keep = np.searchsorted(travelled, np.linspace(0.0, travelled[-1], MAX_POINTS))
        keep = np.unique(np.concatenate([[0], np.minimum(keep, len(x) - 1)[1:-1], [len(x) - 1]]))
        x, y = x[keep], y[keep]
    return [[round(float(a), 6), round(float(b), 6)] for a, b in zip(x, y, strict=True)]
