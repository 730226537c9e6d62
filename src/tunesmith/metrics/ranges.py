"""Where each metric can lie at all, and how values that rounding pushed out are put back."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Range = tuple[float, float]

_SHARE: Range = (0.0, 1.0)
_CORRELATION: Range = (-1.0, 1.0)
_SCORE: Range = (0.0, 100.0)
_AT_LEAST_0: Range = (0.0, math.inf)
_AT_LEAST_1: Range = (1.0, math.inf)
_AT_MOST_0: Range = (-math.inf, 0.0)
_ANY: Range = (-math.inf, math.inf)

RANGES: Mapping[str, Range] = {
    "accuracy": _SHARE,
    "token_accuracy": _SHARE,
    "reward_accuracy": _SHARE,
    "kl": _AT_LEAST_0,
    "margin": _ANY,
    **dict.fromkeys(("reward", "reward_function", "reward_run"), _ANY),
    **dict.fromkeys(("reward_number", "reward_text", "reward_regex", "reward_length"), _AT_LEAST_0),
    "answer_length": _AT_LEAST_0,
    "chosen_log_probability": _AT_MOST_0,
    "rejected_log_probability": _AT_MOST_0,
    "balanced_accuracy": _SHARE,
    **{f"{average}{name}": _SHARE for average in ("", "macro_", "micro_") for name in ("precision", "recall", "f1")},
    "roc_auc": _SHARE,
    "pr_auc": _SHARE,
    "expected_calibration_error": _SHARE,
    "hamming_loss": _SHARE,
    "brier": (0.0, 2.0),
    "log_loss": _AT_LEAST_0,
    "mcc": _CORRELATION,
    "pearson": _CORRELATION,
    "spearman": _CORRELATION,
    "r2": (-math.inf, 1.0),
    "mae": _AT_LEAST_0,
    "rmse": _AT_LEAST_0,
    "perplexity": _AT_LEAST_1,
    "pseudo_perplexity": _AT_LEAST_1,
    "bits_per_byte": _AT_LEAST_0,
    "exact_match": _SHARE,
    "answerable_f1": _SHARE,
    "unanswerable_accuracy": _SHARE,
    "rouge_1": _SHARE,
    "rouge_2": _SHARE,
    "rouge_l": _SHARE,
    **dict.fromkeys(("recall_at_1", "recall_at_10", "mrr", "ndcg_at_10"), _SHARE),
    "chrf": _SCORE,
    "bleu": _SCORE,
}
"""The lowest and the highest value of every metric of this package."""

ROUNDING = 1e-6
"""How far, as a part of 1 or of the end itself, rounding can push a value out; more than that is a mistake of ours."""


def within_range(metrics: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Put values just outside of their metric's range back to its end.

    A sum of shares may come to 1.0000000000000002. What lies out further is left as it is: it is no
    rounding, and hiding it would hide the mistake. Metrics without a known range pass through.
    """
    return {name: _put_back(values, *RANGES[name]) if name in RANGES else values for name, values in metrics.items()}


def _put_back(values: FloatArray, low: float, high: float) -> FloatArray:
    if math.isfinite(high):
        values = np.where((values > high) & (values <= high + ROUNDING * max(1.0, abs(high))), high, values)
    if math.isfinite(low):
        values = np.where((values < low) & (values >= low - ROUNDING * max(1.0, abs(low))), low, values)
    return values
