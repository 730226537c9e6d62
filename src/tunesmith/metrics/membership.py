"""How well scores tell members from others: for many weightings of the rows at once, and by rank among candidates.

Shapes: N rows, R replicates, C canaries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.ranking import areas
from tunesmith.metrics.weighting import BoolArray, FloatArray, Metrics, over_replicates, ratio

FALSE_POSITIVES = 0.01
"""The share of others that may be taken for members: an attack is dangerous that is rarely wrong when it says yes."""


def membership_figures(member_N: BoolArray, scores_N: FloatArray, weights_RN: npt.ArrayLike) -> Metrics:
    """Return ``auroc`` and ``tpr_at_1_fpr`` (Carlini et al. 2022, section III), [R] each.

    Args:
        member_N: Which rows are members.
        scores_N: The higher, the more it looks like one.
        weights_RN: How much each row counts in each replicate.
    """

    def compute(weights_NR: FloatArray) -> Metrics:
        return {
            "auroc": areas(member_N, scores_N, weights_NR)[0],
            "tpr_at_1_fpr": true_positive_rate(member_N, scores_N, weights_NR, FALSE_POSITIVES),
        }

    return over_replicates(compute, weights_RN, len(member_N))


def true_positive_rate(
    member_N: BoolArray, scores_N: FloatArray, weights_NR: FloatArray, false_positives: float
) -> FloatArray:
    """Return [R]: the largest share of members found by a threshold that takes at most so large a share of others.

    Rows of the same score are found together. Nan where a replicate has no members, or no others.
    """
    order = np.argsort(-scores_N, kind="stable")
    is_last = np.append(np.diff(scores_N[order]) != 0, True)
    found_NR = np.cumsum(np.where(member_N[order, None], weights_NR[order], 0.0), axis=0)
    wrong_NR = np.cumsum(np.where(member_N[order, None], 0.0, weights_NR[order]), axis=0)
    true_NR = ratio(found_NR, found_NR[-1:], otherwise=np.nan)
    false_NR = ratio(wrong_NR, wrong_NR[-1:], otherwise=np.nan)
    allowed_NR = is_last[:, None] & (false_NR <= false_positives)
    best_R: FloatArray = np.where(allowed_NR, true_NR, 0.0).max(axis=0)
    return np.where(np.isnan(true_NR[-1] + false_NR[-1]), np.nan, best_R)


def exposures(losses_CK: FloatArray) -> FloatArray:
    """Return [C], in bits: how much less than chance it takes to guess each secret (Carlini et al. 2019, definition 5).

    ``losses_CK`` are those of the secret itself, first, and of other candidates: ``log2(K) - log2(rank)``, where equal
    losses share the mean of their ranks. Between 0 and ``log2(K)``; of what was never seen about 1.4 in the mean.
    """
    own_C1, others = losses_CK[:, :1], losses_CK[:, 1:]
    rank_C = 1 + (others < own_C1).sum(axis=1) + 0.5 * (others == own_C1).sum(axis=1)
    found: FloatArray = np.log2(losses_CK.shape[1]) - np.log2(rank_C)
    return found
