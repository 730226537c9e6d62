"""How well vectors find what belongs to them among candidates: ranks, and metrics of them.

Shapes: N queries, C candidates, D numbers a vector, R replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, Metrics, over_replicates, ratio

IntArray = npt.NDArray[np.int64]

MAX_SCORES = 8_000_000
"""Scores of queries and candidates that are held at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """What each query finds."""

    ranks: FloatArray
    """[N]: the place of its own candidate, from 1; candidates that lie equally near share their mean place."""
    nearest: IntArray
    """[N]: the candidate that it is nearest to: another one than its own, unless that alone is the nearest."""
    similarity: FloatArray
    """[N]: the cosine of that one."""


def find(
    queries_ND: npt.NDArray[Any], candidates_CD: npt.NDArray[Any], own_N: IntArray, also_right: dict[int, IntArray]
) -> Found:
    """Rank the candidates of every query by cosine; vectors have length 1.

    ``own_N`` is each query's own candidate; ``also_right`` names, for some queries, others that answer them as well and
    do not compete.
    """
    num_queries, step = len(queries_ND), max(1, MAX_SCORES // max(len(candidates_CD), 1))
    ranks, nearest, similarity = np.empty(num_queries), np.empty(num_queries, np.int64), np.empty(num_queries)
    for start in range(0, num_queries, step):
        rows = np.arange(start, min(start + step, num_queries))
        scores = (queries_ND[rows] @ candidates_CD.T).astype(np.float64)
        for place, row in enumerate(rows.tolist()):
            if row in also_right:
                scores[place, also_right[row]] = -np.inf
        here = np.arange(len(rows))
        own = scores[here, own_N[rows]].copy()
        scores[here, own_N[rows]] = -np.inf
        ranks[rows] = 1 + (scores > own[:, None]).sum(axis=1) + (scores == own[:, None]).sum(axis=1) / 2
        nearest[rows] = np.where(ranks[rows] == 1, own_N[rows], scores.argmax(axis=1))
        similarity[rows] = np.where(ranks[rows] == 1, own, scores.max(axis=1))
    return Found(ranks, nearest, similarity)


def retrieval_metrics(ranks_N: FloatArray, weights_RN: npt.ArrayLike) -> Metrics:
    """Return ``recall_at_1``, ``recall_at_10``, ``mrr`` and ``ndcg_at_10`` as [R] values, one candidate being right.

    With one right candidate recall is the share of queries that find it among the first, and the gain of rank r is
    1 / log2(1 + r), the best being 1 (Järvelin and Kekäläinen 2002).
    """
    is_among_10 = ranks_N <= 10
    values = {
        "ndcg_at_10": np.where(is_among_10, 1 / np.log2(1 + ranks_N), 0.0),
        "mrr": 1 / ranks_N,
        "recall_at_1": (ranks_N <= 1).astype(np.float64),
        "recall_at_10": is_among_10.astype(np.float64),
    }

    def compute(weights_NR: FloatArray) -> Metrics:
        total_R = weights_NR.sum(axis=0)
        return {name: ratio(value_N @ weights_NR, total_R, np.nan) for name, value_N in values.items()}

    return over_replicates(compute, weights_RN, len(ranks_N))
