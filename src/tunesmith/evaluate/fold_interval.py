"""The interval of a metric over repeated folds, whose training rows overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.evaluate.student import half_width


@dataclass(frozen=True, slots=True)
class FoldInterval:
    """A mean over folds with its corrected interval; nan where nothing is known."""

    value: float
    low: float
    high: float
    degrees_of_freedom: int


def fold_interval(
    values: Sequence[float], *, num_train: float, num_test: float, confidence: float = 0.95
) -> FoldInterval:
    """Return the corrected resampled t interval of Nadeau and Bengio (2003).

    ``values`` are the metric of all k r folds (k folds, r repeats); ``num_train`` and ``num_test`` the rows that a fold
    is trained and tested on. Folds share most of their training rows and are no independent samples: their variance
    s^2 is weighted by 1 / (k r) + num_test / num_train instead of 1 / (k r), with k r - 1 degrees of freedom. Folds in
    which the metric is undefined are left out.
    """
    defined = np.array([value for value in values if math.isfinite(value)])
    if not len(defined):
        return FoldInterval(math.nan, math.nan, math.nan, 0)
    mean, freedom = float(defined.mean()), len(defined) - 1
    if not freedom:
        return FoldInterval(mean, math.nan, math.nan, 0)
    variance = float(defined.var(ddof=1)) * (1 / len(defined) + num_test / num_train)
    half = half_width(variance, freedom, confidence)
    return FoldInterval(mean, mean - half, mean + half, freedom)
