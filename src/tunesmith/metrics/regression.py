"""Metrics of regression over row-weighted replicates.

Shapes: N rows, R replicates, G distinct values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, Metrics, group_sums, over_replicates, ratio

CANCELLED = 1e-6
"""A variance this small a part of the mean square has lost digits to cancellation and is computed again."""


def regression_metrics(truth_N: FloatArray, predicted_N: FloatArray, weights_RN: npt.ArrayLike) -> Metrics:
    """Return ``mae``, ``rmse``, ``r2``, ``pearson`` and ``spearman`` as [R] values.

    ``r2`` is nan where the truth is constant: there is no variance to explain. Correlations are nan where the
    truth or the prediction is constant; ``spearman`` is the correlation of average ranks.
    """
    error_N = predicted_N - truth_N

    def compute(weights_NR: FloatArray) -> Metrics:
        total_R = weights_NR.sum(axis=0)
        squared_R = (error_N**2) @ weights_NR
        truth_R, predicted_R, shared_R = _spreads(truth_N, predicted_N, weights_NR)
        return {
            "mae": ratio(np.abs(error_N) @ weights_NR, total_R, np.nan),
            "rmse": np.sqrt(ratio(squared_R, total_R, np.nan)),
            "r2": 1.0 - ratio(squared_R, truth_R, np.nan),
            "pearson": _correlation(truth_R, predicted_R, shared_R),
            "spearman": _spearman(truth_N, predicted_N, weights_NR),
        }

    return over_replicates(compute, weights_RN, len(truth_N))


def average_ranks(values_N: FloatArray, weights_NR: FloatArray) -> FloatArray:
    """Return [N, R]: each row's rank (from 1) among the rows written out by weight; ties share their mean rank."""
    distinct_G, groups_N = np.unique(values_N, return_inverse=True)
    sums_GR = group_sums(groups_N, len(distinct_G), weights_NR)
    rank_GR = np.cumsum(sums_GR, axis=0)
    rank_GR -= 0.5 * (sums_GR - 1.0)
    ranks_NR: FloatArray = rank_GR[groups_N]
    return ranks_NR


def _spearman(truth_N: FloatArray, predicted_N: FloatArray, weights_NR: FloatArray) -> FloatArray:
    middle_R = 0.5 * (weights_NR.sum(axis=0) + 1.0)
    truth_NR = average_ranks(truth_N, weights_NR) - middle_R
    predicted_NR = average_ranks(predicted_N, weights_NR) - middle_R
    return _correlation(
        np.einsum("nr,nr,nr->r", truth_NR, truth_NR, weights_NR),
        np.einsum("nr,nr,nr->r", predicted_NR, predicted_NR, weights_NR),
        np.einsum("nr,nr,nr->r", truth_NR, predicted_NR, weights_NR),
    )


def _correlation(spread_x_R: FloatArray, spread_y_R: FloatArray, shared_R: FloatArray) -> FloatArray:
    scale_R = np.sqrt(spread_x_R) * np.sqrt(spread_y_R)
    return np.clip(ratio(shared_R, scale_R, np.nan), -1.0, 1.0)


def _spreads(x_N: FloatArray, y_N: FloatArray, weights_NR: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the weighted sums of squares of x and y about their means and of their products, [R] each.

    Computed from sums of squares, which is quick; replicates where that cancelled most
    digits are computed again about their own mean.
    """
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    total_R = weights_NR.sum(axis=0)
    sum_x_R, sum_y_R = x_N @ weights_NR, y_N @ weights_NR
    raw_x_R, raw_y_R = (x_N * x_N) @ weights_NR, (y_N * y_N) @ weights_NR
    spread_x_R = raw_x_R - ratio(sum_x_R**2, total_R)
    spread_y_R = raw_y_R - ratio(sum_y_R**2, total_R)
    shared_R = (x_N * y_N) @ weights_NR - ratio(sum_x_R * sum_y_R, total_R)
    for r in np.flatnonzero((spread_x_R <= CANCELLED * raw_x_R) | (spread_y_R <= CANCELLED * raw_y_R)):
        weight_N = weights_NR[:, r]
        x_centred, y_centred = _centred(x_N, weight_N), _centred(y_N, weight_N)
        spread_x_R[r] = weight_N @ (x_centred * x_centred)
        spread_y_R[r] = weight_N @ (y_centred * y_centred)
        shared_R[r] = weight_N @ (x_centred * y_centred)
    return spread_x_R, spread_y_R, shared_R


def _centred(values_N: FloatArray, weight_N: FloatArray) -> FloatArray:
    """Subtract the weighted mean; exactly zero where all weighted values are the same."""
    used = values_N[weight_N > 0]
    if len(used) == 0 or used.min() == used.max():
        return np.zeros_like(values_N)
    centred: FloatArray = values_N - (weight_N @ values_N) / weight_N.sum()
    return centred
