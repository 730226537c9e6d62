"""Areas under the ROC and precision-recall curves, for many weightings of the rows at once.

The rows are sorted once. Both areas change only where a positive row stands, so the
sorted rows are cut into segments: every tie that holds a positive, and every gap between
two such ties. With few positives (one class against 76 others) that leaves few segments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import BoolArray, FloatArray, mean_where, ratio, segment_sums


def areas(
    positive_N: BoolArray, scores_N: npt.NDArray[np.floating], weights_NR: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the ROC area and the average precision of each replicate, [R] each.

    Ties count one half in the ROC area (Mann-Whitney) and share one threshold in the
    average precision, as in scikit-learn. Both are nan where a replicate lacks positives;
    the ROC area also where it lacks negatives.
    """
    num_replicates = weights_NR.shape[1]
    if not positive_N.any():
        return np.full(num_replicates, np.nan), np.full(num_replicates, np.nan)
    order = np.argsort(scores_N, kind="stable")
    starts, holds_positive = _segments(positive_N[order], scores_N[order])
    all_SR = segment_sums(order, starts, weights_NR)
    counts = np.add.reduceat(positive_N[order].astype(np.int64), starts)[holds_positive]
    positive_PR = segment_sums(order[positive_N[order]], np.cumsum(counts) - counts, weights_NR)
    return _roc_area(all_SR, positive_PR, holds_positive), _average_precision(all_SR, positive_PR, holds_positive)


def _segments(positive_N: BoolArray, sorted_N: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int64], BoolArray]:
    """Return where each segment of the sorted rows starts, and whether it holds a positive."""
    tie_starts = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    tie_holds = np.logical_or.reduceat(positive_N, tie_starts)
    begins = tie_holds.copy()
    begins[0] = True
    begins[1:] |= tie_holds[:-1]
    return tie_starts[begins], tie_holds[begins]


def _roc_area(all_SR: FloatArray, positive_PR: FloatArray, holds_positive: BoolArray) -> FloatArray:
    negative_SR = all_SR.copy()
    negative_SR[holds_positive] -= positive_PR
    below_SR = np.cumsum(negative_SR, axis=0)
    won_R = (positive_PR * (below_SR[holds_positive] - 0.5 * negative_SR[holds_positive])).sum(axis=0)
    return ratio(won_R, positive_PR.sum(axis=0) * below_SR[-1], otherwise=np.nan)


def _average_precision(all_SR: FloatArray, positive_PR: FloatArray, holds_positive: BoolArray) -> FloatArray:
    at_or_above_PR = np.cumsum(all_SR[::-1], axis=0)[::-1][holds_positive]
    found_PR = np.cumsum(positive_PR[::-1], axis=0)[::-1]
    precision_PR = ratio(found_PR, at_or_above_PR)
    return ratio((positive_PR * precision_PR).sum(axis=0), found_PR[0], otherwise=np.nan)


def macro_areas(
    positive_NK: BoolArray, scores_NK: npt.NDArray[np.floating], weights_NR: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return both areas, [R] each, as means over the columns; columns without an area are left out."""
    per_column = [areas(positive_NK[:, k], scores_NK[:, k], weights_NR) for k in range(positive_NK.shape[1])]
    roc_KR = np.stack([roc for roc, _ in per_column])
    precision_KR = np.stack([precision for _, precision in per_column])
    return mean_where(roc_KR, ~np.isnan(roc_KR)), mean_where(precision_KR, ~np.isnan(precision_KR))
