"""Metrics of language models over row-weighted replicates, from sums over each row's tokens.

Shapes: N rows, R replicates.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, Metrics, over_replicates, ratio


def language_metrics(
    loss_N: FloatArray, tokens_N: FloatArray, right_N: FloatArray, bytes_N: FloatArray, weights_RN: npt.ArrayLike
) -> Metrics:
    """Return ``perplexity``, ``token_accuracy`` and ``bits_per_byte`` as [R] values.

    Perplexity is the exponential of the mean loss (natural logarithm) per token; bits per byte are the whole
    loss over the bytes of the text, which makes models with different vocabularies comparable. Each is nan where
    there are no tokens, or no bytes.

    Args:
        loss_N: Summed cross-entropy of each row's tokens, in nats.
        tokens_N: Tokens judged.
        right_N: Those whose most likely guess was right.
        bytes_N: UTF-8 bytes of the text that they stand for.
        weights_RN: Weight of each row in each replicate.
    """

    def compute(weights_NR: FloatArray) -> Metrics:
        loss_R, tokens_R = loss_N @ weights_NR, tokens_N @ weights_NR
        with np.errstate(over="ignore"):
            perplexity_R = np.exp(ratio(loss_R, tokens_R, np.nan))
        return {
            "perplexity": perplexity_R,
            "token_accuracy": ratio(right_N @ weights_NR, tokens_R, np.nan),
            "bits_per_byte": ratio(loss_R, math.log(2.0) * (bytes_N @ weights_NR), np.nan),
        }

    return over_replicates(compute, weights_RN, len(loss_N))
