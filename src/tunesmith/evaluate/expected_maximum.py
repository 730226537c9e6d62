"""What less tuning would have given: the expected best of n trials (Dodge et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, isfinite


def expected_maximum(values: Sequence[float], *, higher_is_better: bool = True) -> list[float]:
    """Return, for n = 1 to N, the best that n of the N trials have on average, drawn without replacement.

    With the values in order, v_(1) the worst: sum over i of v_(i) C(i - 1, n - 1) / C(N, n). Trials without a value
    (diverged) must be given, too: they are taken as worse than all others, as far as there are others. Empty where no
    trial has one.
    """
    finite = sorted((value for value in values if isfinite(value)), reverse=not higher_is_better)
    if not finite:
        return []
    ordered = [finite[0]] * (len(values) - len(finite)) + finite
    number = len(ordered)
    return [
        sum(value * comb(rank, drawn - 1) for rank, value in enumerate(ordered)) / comb(number, drawn)
        for drawn in range(1, number + 1)
    ]
