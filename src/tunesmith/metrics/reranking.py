"""How well candidates are put in order: metrics of each query, for many weightings of the queries at once.

Shapes: N rows, Q queries, C candidates of a query, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, Metrics, over_replicates, ratio

DEPTH = 10
"""Places that ``ndcg_at_10`` looks at."""


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """The candidates of one query."""

    row: int
    """The row that stands for it where rows are drawn."""
    scores: FloatArray
    """[C]"""
    grades: FloatArray
    """[C]: the higher, the better."""


def reranking_metrics(queries: Sequence[RankedQuery], relevant: float, weights_RN: npt.ArrayLike) -> Metrics:
    """Return ``ndcg_at_10``, ``mrr``, ``recall_at_1`` and ``accuracy`` as [R] values: means over queries.

    A query weighs what its row does: resampled rows are resampled queries. Candidates with a grade above ``relevant``
    are right; queries without any count in ``accuracy`` alone, which is the share of pairs of different grades in the
    right order. Of candidates with equal scores each order is as likely.
    """
    weights = np.asarray(weights_RN)
    names = ("ndcg_at_10", "mrr", "recall_at_1", "accuracy")
    values_QM = np.array([_of_query(query, relevant) for query in queries]).reshape(len(queries), len(names))
    rows_Q = np.array([query.row for query in queries], dtype=np.int64)

    def compute(weights_NR: FloatArray) -> Metrics:
        found = {}
        for name, values_Q in zip(names, values_QM.T, strict=True):
            is_known = ~np.isnan(values_Q)
            weights_QR = weights_NR[rows_Q[is_known]]
            found[name] = ratio(values_Q[is_known] @ weights_QR, weights_QR.sum(axis=0), np.nan)
        return found

    return over_replicates(compute, weights, weights.shape[1])


def _of_query(query: RankedQuery, relevant: float) -> tuple[float, float, float, float]:
    """Return the four metrics of one query; nan for what it says nothing of."""
    scores, grades = query.scores, query.grades
    is_right = grades > relevant
    accuracy = _pair_accuracy(scores, grades)
    if not is_right.any():
        return np.nan, np.nan, np.nan, accuracy
    best = scores[is_right].max()
    num_above = (scores[~is_right] > best).sum()
    num_beside = (scores[~is_right] == best).sum()
    first = 1 + num_above + num_beside / (1 + (scores[is_right] == best).sum())
    top = scores == scores.max()
    found = (top & is_right).sum() / top.sum() / is_right.sum()
    return _ndcg(scores, np.where(is_right, grades - relevant, 0.0)), 1 / first, found, accuracy


def _ndcg(scores: FloatArray, gains: FloatArray) -> float:
    """Return the gain among the first places beside the best order's, ties sharing theirs (as in scikit-learn)."""
    discounts = np.where(np.arange(len(gains)) < DEPTH, 1 / np.log2(np.arange(len(gains)) + 2), 0.0)
    order = np.argsort(-scores, kind="stable")
    _, ties = np.unique(-scores[order], return_inverse=True)
    means = np.bincount(ties, gains[order]) / np.bincount(ties)
    best = np.sort(gains)[::-1] @ discounts
    return float(means[ties] @ discounts / best)


def _pair_accuracy(scores: FloatArray, grades: FloatArray) -> float:
    """Return the share of pairs of different grades whose better one scores more; half where they score the same."""
    is_better = grades[:, None] > grades[None, :]
    if not is_better.any():
        return float("nan")
    ahead = scores[:, None] > scores[None, :]
    level = scores[:, None] == scores[None, :]
    return float((ahead + 0.5 * level)[is_better].mean())
