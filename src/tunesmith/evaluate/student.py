"""Student's t and Fisher's F as the contest asks for them: by the quick functions, infinite degrees of freedom too."""

from __future__ import annotations

import math


def half_width(variance: float, freedom: float, confidence: float) -> float:
    """Return half of the width of the interval: t x the root of ``variance``; nan where that is undefined."""
    from scipy.special import ndtri, stdtrit

    if not variance >= 0:
        return math.nan
    share = (1 + confidence) / 2
    return float(stdtrit(freedom, share) if math.isfinite(freedom) else ndtri(share)) * math.sqrt(variance)


def p_value(difference: float, variance: float, freedom: float) -> float:
    """Return the two-sided p-value of a difference; nan where it, or its variance, is undefined."""
    from scipy.special import ndtr, stdtr

    if not math.isfinite(difference) or not variance >= 0:
        return math.nan
    if variance == 0:
        return 1.0 if difference == 0 else 0.0
    below = -abs(difference) / math.sqrt(variance)
    return float(2 * (stdtr(freedom, below) if math.isfinite(freedom) else ndtr(below)))


def chance_of_ratio(ratio: float, freedom: float, other_freedom: float) -> float:
    """Return how probable it is that two variances that are equal are estimated with at least this ratio."""
    from scipy.special import fdtrc

    return float(fdtrc(freedom, other_freedom, ratio))
